-- Revision 0001: every table, frozen. store/tables.py and store/fact_tables.py are the same in Python; a test compares.

CREATE TABLE ingest.aspect_mentions (
    mention_id UUID NOT NULL,
    run_id UUID NOT NULL,
    subject_at TIMESTAMP WITH TIME ZONE NOT NULL,
    source TEXT NOT NULL,
    call_id TEXT,
    utterance_id UUID,
    review_id TEXT,
    revision_id UUID,
    product TEXT,
    span_start INTEGER NOT NULL,
    span_end INTEGER NOT NULL,
    aspect_text TEXT NOT NULL,
    aspect_id TEXT NOT NULL,
    polarity TEXT NOT NULL,
    sentiment DOUBLE PRECISION NOT NULL,
    p_negative DOUBLE PRECISION NOT NULL,
    p_neutral DOUBLE PRECISION NOT NULL,
    p_positive DOUBLE PRECISION NOT NULL,
    confidence DOUBLE PRECISION NOT NULL,
    occurred_at TIMESTAMP WITH TIME ZONE NOT NULL,
    model TEXT NOT NULL,
    model_version TEXT NOT NULL,
    infer_ms DOUBLE PRECISION NOT NULL,
    queue_ms DOUBLE PRECISION NOT NULL,
    source_topic TEXT NOT NULL,
    source_topic_id UUID NOT NULL,
    source_partition INTEGER NOT NULL,
    source_offset BIGINT NOT NULL,
    source_at TIMESTAMP WITH TIME ZONE NOT NULL,
    trace_id TEXT,
    committed_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT aspect_mentions_pkey PRIMARY KEY (mention_id, run_id, subject_at),
    CONSTRAINT aspect_mentions_polarity_check CHECK (polarity IN ('negative', 'neutral', 'positive')),
    CONSTRAINT aspect_mentions_sentiment_check CHECK (sentiment BETWEEN -1 AND 1),
    CONSTRAINT aspect_mentions_span_check CHECK (span_start >= 0 AND span_end > span_start),
    CONSTRAINT aspect_mentions_source_check CHECK ((source = 'utterance' AND call_id IS NOT NULL AND utterance_id IS NOT NULL AND review_id IS NULL) OR (source = 'review' AND review_id IS NOT NULL AND revision_id IS NOT NULL AND call_id IS NULL))
)
PARTITION BY RANGE (subject_at);
CREATE INDEX aspect_mentions_call_id_run_id_idx ON ingest.aspect_mentions (call_id, run_id);
CREATE INDEX aspect_mentions_review_id_idx ON ingest.aspect_mentions (review_id);
COMMENT ON TABLE ingest.aspect_mentions IS 'One row per aspect mentioned in an utterance or a review, and run.';
COMMENT ON COLUMN ingest.aspect_mentions.mention_id IS 'uuid5 of the subject and the span';
COMMENT ON COLUMN ingest.aspect_mentions.run_id IS 'Run';
COMMENT ON COLUMN ingest.aspect_mentions.subject_at IS 'Start of the call or creation of the review; partition column';
COMMENT ON COLUMN ingest.aspect_mentions.source IS 'utterance or review';
COMMENT ON COLUMN ingest.aspect_mentions.call_id IS 'The call, if source is utterance';
COMMENT ON COLUMN ingest.aspect_mentions.utterance_id IS 'The utterance, if source is utterance';
COMMENT ON COLUMN ingest.aspect_mentions.review_id IS 'The review, if source is review';
COMMENT ON COLUMN ingest.aspect_mentions.revision_id IS 'The revision of the review, if source is review';
COMMENT ON COLUMN ingest.aspect_mentions.product IS 'Product of the call or review';
COMMENT ON COLUMN ingest.aspect_mentions.span_start IS 'First character of the aspect in the text, from 0';
COMMENT ON COLUMN ingest.aspect_mentions.span_end IS 'Character after the aspect''s last one';
COMMENT ON COLUMN ingest.aspect_mentions.aspect_text IS 'The aspect as it was said or written';
COMMENT ON COLUMN ingest.aspect_mentions.aspect_id IS 'The aspect in the taxonomy of the run';
COMMENT ON COLUMN ingest.aspect_mentions.polarity IS 'negative, neutral or positive: the likeliest';
COMMENT ON COLUMN ingest.aspect_mentions.sentiment IS 'p_positive - p_negative, -1..1';
COMMENT ON COLUMN ingest.aspect_mentions.p_negative IS 'Calibrated probability, 0..1';
COMMENT ON COLUMN ingest.aspect_mentions.p_neutral IS 'Calibrated probability, 0..1';
COMMENT ON COLUMN ingest.aspect_mentions.p_positive IS 'Calibrated probability, 0..1';
COMMENT ON COLUMN ingest.aspect_mentions.confidence IS 'Confidence that the span is an aspect, 0..1';
COMMENT ON COLUMN ingest.aspect_mentions.occurred_at IS 'Instant at which it was said or written';
COMMENT ON COLUMN ingest.aspect_mentions.model IS 'Name of the model';
COMMENT ON COLUMN ingest.aspect_mentions.model_version IS 'Version of the model''s weights and code';
COMMENT ON COLUMN ingest.aspect_mentions.infer_ms IS 'Time the model computed, ms, >= 0';
COMMENT ON COLUMN ingest.aspect_mentions.queue_ms IS 'Time the request waited for the model, ms, >= 0';
COMMENT ON COLUMN ingest.aspect_mentions.source_topic IS 'Kafka topic of the record this row was made from';
COMMENT ON COLUMN ingest.aspect_mentions.source_topic_id IS 'Kafka''s id of that topic';
COMMENT ON COLUMN ingest.aspect_mentions.source_partition IS 'Partition of that record, from 0';
COMMENT ON COLUMN ingest.aspect_mentions.source_offset IS 'Offset of that record, from 0';
COMMENT ON COLUMN ingest.aspect_mentions.source_at IS 'Kafka''s timestamp of that record';
COMMENT ON COLUMN ingest.aspect_mentions.trace_id IS 'W3C trace id, 32 hex digits';
COMMENT ON COLUMN ingest.aspect_mentions.committed_at IS 'Instant at which the row was written';

CREATE TABLE ingest.attempts (
    ledger_id BIGINT NOT NULL,
    "offset" BIGINT NOT NULL,
    attempts INTEGER NOT NULL,
    last_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT attempts_pkey PRIMARY KEY (ledger_id, "offset")
);
COMMENT ON TABLE ingest.attempts IS 'Records tried one at a time, counted before they are decoded. Cleared on a clean revoke.';
COMMENT ON COLUMN ingest.attempts.ledger_id IS 'Row of ingest.ledger';
COMMENT ON COLUMN ingest.attempts."offset" IS 'Kafka offset of the record that was tried';
COMMENT ON COLUMN ingest.attempts.attempts IS 'Times a worker began this record by itself, from 1';
COMMENT ON COLUMN ingest.attempts.last_at IS 'Instant of the last attempt';

CREATE TABLE ingest.call_runs (
    call_id TEXT NOT NULL,
    run_id UUID NOT NULL,
    call_started_at TIMESTAMP WITH TIME ZONE NOT NULL,
    state TEXT NOT NULL,
    utterances INTEGER NOT NULL,
    reason TEXT,
    trace_id TEXT,
    transcribed_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    finished_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT call_runs_pkey PRIMARY KEY (call_id, run_id),
    CONSTRAINT call_runs_state_check CHECK (state IN ('transcribed', 'analysed', 'no_speech', 'unsupported_language', 'dead_lettered', 'erased'))
);
COMMENT ON TABLE ingest.call_runs IS 'State of a closed call in one run.';
COMMENT ON COLUMN ingest.call_runs.call_id IS 'The producer''s id of the call';
COMMENT ON COLUMN ingest.call_runs.run_id IS 'Run';
COMMENT ON COLUMN ingest.call_runs.call_started_at IS 'Start of the call';
COMMENT ON COLUMN ingest.call_runs.state IS 'transcribed, analysed, no_speech, unsupported_language, dead_lettered or erased';
COMMENT ON COLUMN ingest.call_runs.utterances IS 'Utterances that call.closed named';
COMMENT ON COLUMN ingest.call_runs.reason IS 'snake_case code where the state needs one';
COMMENT ON COLUMN ingest.call_runs.trace_id IS 'W3C trace id, 32 hex digits';
COMMENT ON COLUMN ingest.call_runs.transcribed_at IS 'Instant at which the last utterance was done';
COMMENT ON COLUMN ingest.call_runs.finished_at IS 'Instant of the summary or of a terminal state; null before';

CREATE TABLE ingest.calls (
    call_id TEXT NOT NULL,
    call_started_at TIMESTAMP WITH TIME ZONE NOT NULL,
    channels INTEGER NOT NULL,
    roles TEXT[] NOT NULL,
    product TEXT,
    topic_id UUID NOT NULL,
    partition INTEGER NOT NULL,
    state TEXT NOT NULL,
    close_reason TEXT,
    received INT8MULTIRANGE NOT NULL,
    last_seq BIGINT,
    duration_ms BIGINT DEFAULT '0' NOT NULL,
    gap_ms BIGINT DEFAULT '0' NOT NULL,
    late_chunks INTEGER DEFAULT '0' NOT NULL,
    paused BOOLEAN DEFAULT false NOT NULL,
    metadata JSONB DEFAULT '{}' NOT NULL,
    trace_id TEXT,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    last_commit_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT calls_pkey PRIMARY KEY (call_id),
    CONSTRAINT calls_state_check CHECK (state IN ('started', 'streaming', 'ended', 'transcribed', 'analysed', 'no_speech', 'unsupported_language', 'audio_corrupt', 'timed_out', 'dead_lettered', 'erased')),
    CONSTRAINT calls_channels_check CHECK (channels BETWEEN 1 AND 2 AND cardinality(roles) = channels)
);
CREATE INDEX calls_call_started_at_idx ON ingest.calls (call_started_at);
CREATE INDEX calls_open_idx ON ingest.calls (last_commit_at) WHERE state IN ('started', 'streaming');
COMMENT ON TABLE ingest.calls IS 'One row per call, whatever became of it.';
COMMENT ON COLUMN ingest.calls.call_id IS 'The producer''s id of the call';
COMMENT ON COLUMN ingest.calls.call_started_at IS 'Start of the call as the producer says; its month is the partition of its facts';
COMMENT ON COLUMN ingest.calls.channels IS 'Channels of the recording, 1 or 2';
COMMENT ON COLUMN ingest.calls.roles IS 'Role of each channel: customer, agent or unknown';
COMMENT ON COLUMN ingest.calls.product IS 'Product the call is about, as the producer says';
COMMENT ON COLUMN ingest.calls.topic_id IS 'Kafka''s id of the audio topic';
COMMENT ON COLUMN ingest.calls.partition IS 'Partition of the call''s audio, from 0';
COMMENT ON COLUMN ingest.calls.state IS 'started, streaming, ended, transcribed, analysed, or a terminal state';
COMMENT ON COLUMN ingest.calls.close_reason IS 'ended or timed_out; null while open';
COMMENT ON COLUMN ingest.calls.received IS 'Sequence numbers of the chunks received';
COMMENT ON COLUMN ingest.calls.last_seq IS 'Highest sequence number, from 0; null before the first chunk';
COMMENT ON COLUMN ingest.calls.duration_ms IS 'Length of the audio so far, ms';
COMMENT ON COLUMN ingest.calls.gap_ms IS 'Audio that never came, ms';
COMMENT ON COLUMN ingest.calls.late_chunks IS 'Chunks that came when the call was over';
COMMENT ON COLUMN ingest.calls.paused IS 'The producer paused the call';
COMMENT ON COLUMN ingest.calls.metadata IS 'What call.started carried beside the known fields';
COMMENT ON COLUMN ingest.calls.trace_id IS 'W3C trace id, 32 hex digits';
COMMENT ON COLUMN ingest.calls.created_at IS 'Instant of the first commit';
COMMENT ON COLUMN ingest.calls.last_commit_at IS 'Instant of the last commit, by Postgres'' clock';

CREATE TABLE ingest.dead_letters (
    dead_letter_id UUID NOT NULL,
    stage TEXT NOT NULL,
    run_id UUID NOT NULL,
    topic TEXT NOT NULL,
    topic_id UUID NOT NULL,
    partition INTEGER NOT NULL,
    "offset" BIGINT NOT NULL,
    reason VARCHAR(40) NOT NULL,
    detail TEXT NOT NULL,
    subject_id TEXT,
    trace_id TEXT,
    failed_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    replayed_at TIMESTAMP WITH TIME ZONE,
    replayed_partition INTEGER,
    replayed_offset BIGINT,
    CONSTRAINT dead_letters_pkey PRIMARY KEY (dead_letter_id)
);
CREATE INDEX dead_letters_failed_at_idx ON ingest.dead_letters (failed_at);
CREATE INDEX dead_letters_subject_id_run_id_idx ON ingest.dead_letters (subject_id, run_id);
COMMENT ON TABLE ingest.dead_letters IS 'Records that can never succeed, with the reason. The payload is in pii.dead_letter_payloads.';
COMMENT ON COLUMN ingest.dead_letters.dead_letter_id IS 'uuid5 of stage, run, topic id, partition and offset';
COMMENT ON COLUMN ingest.dead_letters.stage IS 'Stage that gave the record up';
COMMENT ON COLUMN ingest.dead_letters.run_id IS 'Run in which it was given up';
COMMENT ON COLUMN ingest.dead_letters.topic IS 'Source topic, with prefix';
COMMENT ON COLUMN ingest.dead_letters.topic_id IS 'Kafka''s id of the source topic';
COMMENT ON COLUMN ingest.dead_letters.partition IS 'Source partition, from 0';
COMMENT ON COLUMN ingest.dead_letters."offset" IS 'Source offset, from 0';
COMMENT ON COLUMN ingest.dead_letters.reason IS 'snake_case code of the reason';
COMMENT ON COLUMN ingest.dead_letters.detail IS 'One sentence; never text of the payload';
COMMENT ON COLUMN ingest.dead_letters.subject_id IS 'What the record was about, if known: call, review, or for the transcriber the utterance';
COMMENT ON COLUMN ingest.dead_letters.trace_id IS 'W3C trace id, 32 hex digits';
COMMENT ON COLUMN ingest.dead_letters.failed_at IS 'Instant of the verdict';
COMMENT ON COLUMN ingest.dead_letters.replayed_at IS 'Instant of its replay; null: not replayed';
COMMENT ON COLUMN ingest.dead_letters.replayed_partition IS 'Partition of the replayed record, in the same topic';
COMMENT ON COLUMN ingest.dead_letters.replayed_offset IS 'Offset of the replayed record';

CREATE TABLE ingest.ledger (
    ledger_id BIGINT GENERATED ALWAYS AS IDENTITY,
    stage TEXT NOT NULL,
    run_id UUID NOT NULL,
    topic TEXT NOT NULL,
    topic_id UUID NOT NULL,
    partition INTEGER NOT NULL,
    next_offset BIGINT NOT NULL,
    epoch BIGINT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT ledger_pkey PRIMARY KEY (ledger_id),
    CONSTRAINT ledger_stage_run_id_topic_id_partition_key UNIQUE (stage, run_id, topic_id, partition),
    CONSTRAINT ledger_range_check CHECK (next_offset >= 0 AND epoch >= 1)
);
COMMENT ON TABLE ingest.ledger IS 'How far each partition is done, per stage and run. The truth; never pruned.';
COMMENT ON COLUMN ingest.ledger.ledger_id IS 'Number of this row, from 1';
COMMENT ON COLUMN ingest.ledger.stage IS 'segmenter, transcriber, summarizer or reviewer';
COMMENT ON COLUMN ingest.ledger.run_id IS 'Run the stage works for; the segmenter has its own fixed one';
COMMENT ON COLUMN ingest.ledger.topic IS 'Kafka topic, with prefix';
COMMENT ON COLUMN ingest.ledger.topic_id IS 'Kafka''s id of the topic; a recreated topic has another';
COMMENT ON COLUMN ingest.ledger.partition IS 'Kafka partition, from 0';
COMMENT ON COLUMN ingest.ledger.next_offset IS 'First offset not done yet, from 0';
COMMENT ON COLUMN ingest.ledger.epoch IS 'Rises with each assignment, from 1; a lower one may not write';
COMMENT ON COLUMN ingest.ledger.created_at IS 'Instant of the first assignment';
COMMENT ON COLUMN ingest.ledger.updated_at IS 'Instant of the last change';

CREATE TABLE ingest.lost_ranges (
    ledger_id BIGINT NOT NULL,
    first_offset BIGINT NOT NULL,
    last_offset BIGINT NOT NULL,
    found_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT lost_ranges_pkey PRIMARY KEY (ledger_id, first_offset)
);
COMMENT ON TABLE ingest.lost_ranges IS 'Offsets that Kafka''s retention removed before they were read. Each row is an alert.';
COMMENT ON COLUMN ingest.lost_ranges.ledger_id IS 'Row of ingest.ledger';
COMMENT ON COLUMN ingest.lost_ranges.first_offset IS 'First offset Kafka dropped before it was read';
COMMENT ON COLUMN ingest.lost_ranges.last_offset IS 'Last offset Kafka dropped before it was read, inclusive';
COMMENT ON COLUMN ingest.lost_ranges.found_at IS 'Instant of the assignment that found it';

CREATE TABLE ingest.outbox (
    id BIGINT GENERATED ALWAYS AS IDENTITY,
    topic TEXT NOT NULL,
    key BYTEA NOT NULL,
    headers JSONB NOT NULL,
    value BYTEA,
    CONSTRAINT outbox_pkey PRIMARY KEY (id)
);
COMMENT ON TABLE ingest.outbox IS 'Messages to be published; each row goes when the broker has acknowledged it.';
COMMENT ON COLUMN ingest.outbox.id IS 'Order of publication; becomes the header outbox_id, which rises per key';
COMMENT ON COLUMN ingest.outbox.topic IS 'Kafka topic, with prefix';
COMMENT ON COLUMN ingest.outbox.key IS 'Key, bytes';
COMMENT ON COLUMN ingest.outbox.headers IS 'Headers in their order: [[name, base64 of the value], ...]';
COMMENT ON COLUMN ingest.outbox.value IS 'Value, bytes; null is a tombstone';

CREATE TABLE ingest.review_heads (
    review_id TEXT NOT NULL,
    version BIGINT,
    generation BIGINT NOT NULL,
    topic_id UUID NOT NULL,
    "offset" BIGINT NOT NULL,
    revision_id UUID NOT NULL,
    deleted BOOLEAN NOT NULL,
    changed_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT review_heads_pkey PRIMARY KEY (review_id)
);
COMMENT ON TABLE ingest.review_heads IS 'The newest revision of each review; never pruned.';
COMMENT ON COLUMN ingest.review_heads.review_id IS 'The producer''s id of the review';
COMMENT ON COLUMN ingest.review_heads.version IS 'Highest version seen; null if the producer gives none';
COMMENT ON COLUMN ingest.review_heads.generation IS 'Generation of the topic (ingest.topics) of the newest record';
COMMENT ON COLUMN ingest.review_heads.topic_id IS 'Kafka''s id of the topic of the newest record';
COMMENT ON COLUMN ingest.review_heads."offset" IS 'Original offset of the newest record';
COMMENT ON COLUMN ingest.review_heads.revision_id IS 'uuid5 of review, topic id and offset: the revision that the views show';
COMMENT ON COLUMN ingest.review_heads.deleted IS 'True: a tombstone; nothing older comes back';
COMMENT ON COLUMN ingest.review_heads.changed_at IS 'Instant of the last change';

CREATE TABLE ingest.reviews (
    revision_id UUID NOT NULL,
    run_id UUID NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    review_id TEXT NOT NULL,
    version BIGINT,
    product TEXT,
    rating DOUBLE PRECISION,
    language TEXT,
    aspects INTEGER NOT NULL,
    model TEXT NOT NULL,
    model_version TEXT NOT NULL,
    infer_ms DOUBLE PRECISION NOT NULL,
    queue_ms DOUBLE PRECISION NOT NULL,
    source_topic TEXT NOT NULL,
    source_topic_id UUID NOT NULL,
    source_partition INTEGER NOT NULL,
    source_offset BIGINT NOT NULL,
    source_at TIMESTAMP WITH TIME ZONE NOT NULL,
    trace_id TEXT,
    committed_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT reviews_pkey PRIMARY KEY (revision_id, run_id, created_at)
)
PARTITION BY RANGE (created_at);
CREATE INDEX reviews_review_id_idx ON ingest.reviews (review_id);
COMMENT ON TABLE ingest.reviews IS 'One row per revision of a review and run. The text is in pii.review_texts.';
COMMENT ON COLUMN ingest.reviews.revision_id IS 'uuid5 of review, topic id and original offset';
COMMENT ON COLUMN ingest.reviews.run_id IS 'Run';
COMMENT ON COLUMN ingest.reviews.created_at IS 'Creation of the review as the producer says; partition column';
COMMENT ON COLUMN ingest.reviews.review_id IS 'The producer''s id of the review';
COMMENT ON COLUMN ingest.reviews.version IS 'The producer''s version; null if it gives none';
COMMENT ON COLUMN ingest.reviews.product IS 'Product the review is about';
COMMENT ON COLUMN ingest.reviews.rating IS 'The author''s rating, on the producer''s scale';
COMMENT ON COLUMN ingest.reviews.language IS 'BCP 47 tag, as the producer says';
COMMENT ON COLUMN ingest.reviews.aspects IS 'Aspects found in it, >= 0';
COMMENT ON COLUMN ingest.reviews.model IS 'Name of the model';
COMMENT ON COLUMN ingest.reviews.model_version IS 'Version of the model''s weights and code';
COMMENT ON COLUMN ingest.reviews.infer_ms IS 'Time the model computed, ms, >= 0';
COMMENT ON COLUMN ingest.reviews.queue_ms IS 'Time the request waited for the model, ms, >= 0';
COMMENT ON COLUMN ingest.reviews.source_topic IS 'Kafka topic of the record this row was made from';
COMMENT ON COLUMN ingest.reviews.source_topic_id IS 'Kafka''s id of that topic';
COMMENT ON COLUMN ingest.reviews.source_partition IS 'Partition of that record, from 0';
COMMENT ON COLUMN ingest.reviews.source_offset IS 'Offset of that record, from 0';
COMMENT ON COLUMN ingest.reviews.source_at IS 'Kafka''s timestamp of that record';
COMMENT ON COLUMN ingest.reviews.trace_id IS 'W3C trace id, 32 hex digits';
COMMENT ON COLUMN ingest.reviews.committed_at IS 'Instant at which the row was written';

CREATE TABLE ingest.runs (
    run_id UUID NOT NULL,
    spec JSONB NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT runs_pkey PRIMARY KEY (run_id)
);
COMMENT ON TABLE ingest.runs IS 'What results were made with.';
COMMENT ON COLUMN ingest.runs.run_id IS 'uuid5 of the canonical JSON of the spec';
COMMENT ON COLUMN ingest.runs.spec IS 'Models, versions, rules, prompts and decode options';
COMMENT ON COLUMN ingest.runs.created_at IS 'Instant at which the run was first opened';

CREATE TABLE ingest.segmenter_state (
    topic_id UUID NOT NULL,
    partition INTEGER NOT NULL,
    call_id TEXT NOT NULL,
    state BYTEA NOT NULL,
    CONSTRAINT segmenter_state_pkey PRIMARY KEY (topic_id, partition, call_id)
);
COMMENT ON TABLE ingest.segmenter_state IS 'What the segmenter knows of open calls, without audio.';
COMMENT ON COLUMN ingest.segmenter_state.topic_id IS 'Kafka''s id of the audio topic';
COMMENT ON COLUMN ingest.segmenter_state.partition IS 'Partition, from 0';
COMMENT ON COLUMN ingest.segmenter_state.call_id IS 'An open call';
COMMENT ON COLUMN ingest.segmenter_state.state IS 'Detector, resampler and order of the call''s channels, bytes';

CREATE TABLE ingest.summaries (
    call_id TEXT NOT NULL,
    run_id UUID NOT NULL,
    call_started_at TIMESTAMP WITH TIME ZONE NOT NULL,
    method TEXT NOT NULL,
    evidence JSONB NOT NULL,
    model TEXT NOT NULL,
    model_version TEXT NOT NULL,
    infer_ms DOUBLE PRECISION NOT NULL,
    queue_ms DOUBLE PRECISION NOT NULL,
    source_topic TEXT NOT NULL,
    source_topic_id UUID NOT NULL,
    source_partition INTEGER NOT NULL,
    source_offset BIGINT NOT NULL,
    source_at TIMESTAMP WITH TIME ZONE NOT NULL,
    trace_id TEXT,
    committed_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT summaries_pkey PRIMARY KEY (call_id, run_id, call_started_at)
)
PARTITION BY RANGE (call_started_at);
COMMENT ON TABLE ingest.summaries IS 'One row per call and run. The words are in pii.summary_texts.';
COMMENT ON COLUMN ingest.summaries.call_id IS 'The producer''s id of the call';
COMMENT ON COLUMN ingest.summaries.run_id IS 'Run';
COMMENT ON COLUMN ingest.summaries.call_started_at IS 'Start of the call; partition column';
COMMENT ON COLUMN ingest.summaries.method IS 'How it was made: extractive or generative';
COMMENT ON COLUMN ingest.summaries.evidence IS 'Which utterances support what: [{field, utterance_ids}]';
COMMENT ON COLUMN ingest.summaries.model IS 'Name of the model';
COMMENT ON COLUMN ingest.summaries.model_version IS 'Version of the model''s weights and code';
COMMENT ON COLUMN ingest.summaries.infer_ms IS 'Time the model computed, ms, >= 0';
COMMENT ON COLUMN ingest.summaries.queue_ms IS 'Time the request waited for the model, ms, >= 0';
COMMENT ON COLUMN ingest.summaries.source_topic IS 'Kafka topic of the record this row was made from';
COMMENT ON COLUMN ingest.summaries.source_topic_id IS 'Kafka''s id of that topic';
COMMENT ON COLUMN ingest.summaries.source_partition IS 'Partition of that record, from 0';
COMMENT ON COLUMN ingest.summaries.source_offset IS 'Offset of that record, from 0';
COMMENT ON COLUMN ingest.summaries.source_at IS 'Kafka''s timestamp of that record';
COMMENT ON COLUMN ingest.summaries.trace_id IS 'W3C trace id, 32 hex digits';
COMMENT ON COLUMN ingest.summaries.committed_at IS 'Instant at which the row was written';

CREATE TABLE ingest.topics (
    generation BIGINT GENERATED ALWAYS AS IDENTITY,
    topic_id UUID NOT NULL,
    topic TEXT,
    CONSTRAINT topics_pkey PRIMARY KEY (generation),
    CONSTRAINT topics_topic_id_key UNIQUE (topic_id)
);
COMMENT ON TABLE ingest.topics IS 'Generations of topics: offsets of a later generation are newer than those of an earlier one.';
COMMENT ON COLUMN ingest.topics.generation IS 'Order in which topics were first seen, from 1';
COMMENT ON COLUMN ingest.topics.topic_id IS 'Kafka''s id of the topic';
COMMENT ON COLUMN ingest.topics.topic IS 'Kafka topic, with prefix; null until a ledger names it';

CREATE TABLE ingest.utterances (
    utterance_id UUID NOT NULL,
    run_id UUID NOT NULL,
    call_started_at TIMESTAMP WITH TIME ZONE NOT NULL,
    call_id TEXT NOT NULL,
    channel INTEGER NOT NULL,
    role TEXT NOT NULL,
    start_ms BIGINT NOT NULL,
    end_ms BIGINT NOT NULL,
    finish_reason TEXT NOT NULL,
    tokens INTEGER NOT NULL,
    mean_logprob DOUBLE PRECISION,
    model TEXT NOT NULL,
    model_version TEXT NOT NULL,
    infer_ms DOUBLE PRECISION NOT NULL,
    queue_ms DOUBLE PRECISION NOT NULL,
    source_topic TEXT NOT NULL,
    source_topic_id UUID NOT NULL,
    source_partition INTEGER NOT NULL,
    source_offset BIGINT NOT NULL,
    source_at TIMESTAMP WITH TIME ZONE NOT NULL,
    trace_id TEXT,
    committed_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT utterances_pkey PRIMARY KEY (utterance_id, run_id, call_started_at),
    CONSTRAINT utterances_times_check CHECK (start_ms >= 0 AND end_ms >= start_ms)
)
PARTITION BY RANGE (call_started_at);
CREATE INDEX utterances_call_id_run_id_idx ON ingest.utterances (call_id, run_id);
COMMENT ON TABLE ingest.utterances IS 'One row per utterance and run. The text is in pii.utterance_texts.';
COMMENT ON COLUMN ingest.utterances.utterance_id IS 'uuid5 of call, channel, first sample and cut version';
COMMENT ON COLUMN ingest.utterances.run_id IS 'Run that transcribed it';
COMMENT ON COLUMN ingest.utterances.call_started_at IS 'Start of the call; partition column';
COMMENT ON COLUMN ingest.utterances.call_id IS 'The producer''s id of the call';
COMMENT ON COLUMN ingest.utterances.channel IS 'Channel, from 0';
COMMENT ON COLUMN ingest.utterances.role IS 'customer, agent or unknown, as the producer declared';
COMMENT ON COLUMN ingest.utterances.start_ms IS 'Start, ms from the start of the call';
COMMENT ON COLUMN ingest.utterances.end_ms IS 'End, ms from the start of the call; at most 30,000 after start_ms';
COMMENT ON COLUMN ingest.utterances.finish_reason IS 'stop, length, no_speech or repetition';
COMMENT ON COLUMN ingest.utterances.tokens IS 'Tokens the model wrote, >= 0';
COMMENT ON COLUMN ingest.utterances.mean_logprob IS 'Mean log probability of the tokens, <= 0; null if unknown';
COMMENT ON COLUMN ingest.utterances.model IS 'Name of the model';
COMMENT ON COLUMN ingest.utterances.model_version IS 'Version of the model''s weights and code';
COMMENT ON COLUMN ingest.utterances.infer_ms IS 'Time the model computed, ms, >= 0';
COMMENT ON COLUMN ingest.utterances.queue_ms IS 'Time the request waited for the model, ms, >= 0';
COMMENT ON COLUMN ingest.utterances.source_topic IS 'Kafka topic of the record this row was made from';
COMMENT ON COLUMN ingest.utterances.source_topic_id IS 'Kafka''s id of that topic';
COMMENT ON COLUMN ingest.utterances.source_partition IS 'Partition of that record, from 0';
COMMENT ON COLUMN ingest.utterances.source_offset IS 'Offset of that record, from 0';
COMMENT ON COLUMN ingest.utterances.source_at IS 'Kafka''s timestamp of that record';
COMMENT ON COLUMN ingest.utterances.trace_id IS 'W3C trace id, 32 hex digits';
COMMENT ON COLUMN ingest.utterances.committed_at IS 'Instant at which the row was written';

CREATE TABLE ingest.verdicts (
    ledger_id BIGINT NOT NULL,
    first_offset BIGINT NOT NULL,
    last_offset BIGINT NOT NULL,
    kind TEXT NOT NULL,
    reason TEXT,
    CONSTRAINT verdicts_pkey PRIMARY KEY (ledger_id, first_offset),
    CONSTRAINT verdicts_range_check CHECK (first_offset >= 0 AND first_offset <= last_offset),
    CONSTRAINT verdicts_kind_check CHECK (kind IN ('result', 'consumed', 'control', 'duplicate', 'late', 'superseded', 'other_run', 'dead_letter')),
    CONSTRAINT verdicts_one_per_offset EXCLUDE USING gist (ledger_id WITH =, int8range(first_offset, last_offset, '[]') WITH &&)
);
COMMENT ON TABLE ingest.verdicts IS 'What became of each offset: exactly one verdict per stage and run, kept as ranges that never overlap.';
COMMENT ON COLUMN ingest.verdicts.ledger_id IS 'Row of ingest.ledger';
COMMENT ON COLUMN ingest.verdicts.first_offset IS 'First offset of the range';
COMMENT ON COLUMN ingest.verdicts.last_offset IS 'Last offset of the range, inclusive';
COMMENT ON COLUMN ingest.verdicts.kind IS 'result, consumed, control, duplicate, late, superseded, other_run or dead_letter';
COMMENT ON COLUMN ingest.verdicts.reason IS 'snake_case code; null where the kind says it all';

CREATE TABLE pii.dead_letter_payloads (
    dead_letter_id UUID NOT NULL,
    key BYTEA,
    value BYTEA,
    headers JSONB NOT NULL,
    CONSTRAINT dead_letter_payloads_pkey PRIMARY KEY (dead_letter_id)
);
COMMENT ON TABLE pii.dead_letter_payloads IS 'Dead letters exactly as they were consumed.';
COMMENT ON COLUMN pii.dead_letter_payloads.dead_letter_id IS 'Row of ingest.dead_letters';
COMMENT ON COLUMN pii.dead_letter_payloads.key IS 'Key of the record, bytes';
COMMENT ON COLUMN pii.dead_letter_payloads.value IS 'Value of the record, bytes';
COMMENT ON COLUMN pii.dead_letter_payloads.headers IS 'Headers in their order: [[name, base64 of the value], ...]';

CREATE TABLE pii.review_texts (
    revision_id UUID NOT NULL,
    run_id UUID NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL,
    review_id TEXT NOT NULL,
    text TEXT NOT NULL,
    author TEXT,
    CONSTRAINT review_texts_pkey PRIMARY KEY (revision_id, run_id, created_at)
)
PARTITION BY RANGE (created_at);
CREATE INDEX review_texts_review_id_idx ON pii.review_texts (review_id);
COMMENT ON TABLE pii.review_texts IS 'Text of each revision of a review and run.';
COMMENT ON COLUMN pii.review_texts.revision_id IS 'Row of ingest.reviews';
COMMENT ON COLUMN pii.review_texts.run_id IS 'Run';
COMMENT ON COLUMN pii.review_texts.created_at IS 'Creation of the review; partition column';
COMMENT ON COLUMN pii.review_texts.review_id IS 'The producer''s id of the review';
COMMENT ON COLUMN pii.review_texts.text IS 'What the author wrote';
COMMENT ON COLUMN pii.review_texts.author IS 'The author as the producer names them';

CREATE TABLE pii.segmenter_audio (
    topic_id UUID NOT NULL,
    partition INTEGER NOT NULL,
    call_id TEXT NOT NULL,
    channel INTEGER NOT NULL,
    start_sample BIGINT NOT NULL,
    end_sample BIGINT NOT NULL,
    pcm BYTEA NOT NULL,
    CONSTRAINT segmenter_audio_pkey PRIMARY KEY (topic_id, partition, call_id, channel, start_sample)
);
COMMENT ON TABLE pii.segmenter_audio IS 'Audio of utterances that are not cut yet; rows are appended, and removed when the cut is made.';
COMMENT ON COLUMN pii.segmenter_audio.topic_id IS 'Kafka''s id of the audio topic';
COMMENT ON COLUMN pii.segmenter_audio.partition IS 'Partition, from 0';
COMMENT ON COLUMN pii.segmenter_audio.call_id IS 'An open call';
COMMENT ON COLUMN pii.segmenter_audio.channel IS 'Channel, from 0';
COMMENT ON COLUMN pii.segmenter_audio.start_sample IS 'First sample, counted from the start of the channel';
COMMENT ON COLUMN pii.segmenter_audio.end_sample IS 'Sample after the last one';
COMMENT ON COLUMN pii.segmenter_audio.pcm IS 'int16 samples, little-endian, at the channel''s rate';

CREATE TABLE pii.summary_texts (
    call_id TEXT NOT NULL,
    run_id UUID NOT NULL,
    call_started_at TIMESTAMP WITH TIME ZONE NOT NULL,
    issue TEXT,
    outcome TEXT,
    actions JSONB NOT NULL,
    summary TEXT NOT NULL,
    CONSTRAINT summary_texts_pkey PRIMARY KEY (call_id, run_id, call_started_at)
)
PARTITION BY RANGE (call_started_at);
COMMENT ON TABLE pii.summary_texts IS 'Words of each summary and run.';
COMMENT ON COLUMN pii.summary_texts.call_id IS 'The producer''s id of the call';
COMMENT ON COLUMN pii.summary_texts.run_id IS 'Run';
COMMENT ON COLUMN pii.summary_texts.call_started_at IS 'Start of the call; partition column';
COMMENT ON COLUMN pii.summary_texts.issue IS 'Why the customer called; null if not found';
COMMENT ON COLUMN pii.summary_texts.outcome IS 'How it ended; null if not found';
COMMENT ON COLUMN pii.summary_texts.actions IS 'What was promised: a list of sentences';
COMMENT ON COLUMN pii.summary_texts.summary IS 'The call in a few sentences';

CREATE TABLE pii.utterance_texts (
    utterance_id UUID NOT NULL,
    run_id UUID NOT NULL,
    call_started_at TIMESTAMP WITH TIME ZONE NOT NULL,
    text TEXT NOT NULL,
    text_search TSVECTOR GENERATED ALWAYS AS (to_tsvector('english'::regconfig, text)) STORED,
    CONSTRAINT utterance_texts_pkey PRIMARY KEY (utterance_id, run_id, call_started_at)
)
PARTITION BY RANGE (call_started_at);
CREATE INDEX utterance_texts_text_search_idx ON pii.utterance_texts USING gin (text_search);
COMMENT ON TABLE pii.utterance_texts IS 'Text of each utterance and run.';
COMMENT ON COLUMN pii.utterance_texts.utterance_id IS 'Row of ingest.utterances';
COMMENT ON COLUMN pii.utterance_texts.run_id IS 'Run';
COMMENT ON COLUMN pii.utterance_texts.call_started_at IS 'Start of the call; partition column';
COMMENT ON COLUMN pii.utterance_texts.text IS 'What was said; empty if nothing was recognised';
COMMENT ON COLUMN pii.utterance_texts.text_search IS 'The text for full-text search, English stemming';

CREATE TABLE ingest.current_run (
    singleton BOOLEAN DEFAULT true NOT NULL,
    run_id UUID NOT NULL,
    changed_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    CONSTRAINT current_run_pkey PRIMARY KEY (singleton),
    CONSTRAINT current_run_singleton_check CHECK (singleton),
    CONSTRAINT current_run_run_id_fkey FOREIGN KEY(run_id) REFERENCES ingest.runs (run_id)
);
COMMENT ON TABLE ingest.current_run IS 'The pointer that decides what analysts see: one row.';
COMMENT ON COLUMN ingest.current_run.singleton IS 'Always true: there is one row';
COMMENT ON COLUMN ingest.current_run.run_id IS 'The run that the views show';
COMMENT ON COLUMN ingest.current_run.changed_at IS 'Instant of the last switch';
