"""Speech on CPU: voice activity, cutting into utterances, recognition, word error rate.

Nothing is imported here, so that `speech.contract` stays free of heavy packages.
"""
