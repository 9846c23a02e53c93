-- Revision 0004: what the columns of Phi-4's answers may say, in the comments of the tables and of the analysts' views.

COMMENT ON COLUMN ingest.utterances.finish_reason IS 'stop, length, no_speech, repetition or loop';
COMMENT ON COLUMN analytics_v1.utterances_by_run."finish_reason" IS 'stop, length, no_speech, repetition or loop';
COMMENT ON COLUMN analytics_v1.utterances."finish_reason" IS 'stop, length, no_speech, repetition or loop';
COMMENT ON COLUMN ingest.summaries.method IS 'How it was made: extractive-v1 (quotations), phi4-json-v1 or phi4-text-v1 (written by the model)';
COMMENT ON COLUMN analytics_v1.summaries."method" IS 'How it was made: extractive-v1 (quotations), phi4-json-v1 or phi4-text-v1 (written by the model)';
