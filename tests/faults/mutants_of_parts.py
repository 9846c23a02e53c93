"""Mutants of all else: models' answers, dead letters, outbox, bounds, restored and truncated logs."""

from __future__ import annotations

from tests.faults.mutant import LOOP, TEST_LOOP, Edit, Mutant

__all__ = ["PARTS"]

PARTS: tuple[Mutant, ...] = (
    Mutant(
        name="wrong_answers_believed",
        text="answers with NaN are believed",
        proofs=(9,),
        edits=(
            Edit(
                "workers/inference.py",
                "        if not (np.isfinite(answer.mean_logprob) and np.isfinite(answer.infer_ms)):",
                "        if False:",
            ),
        ),
        tests=("tests/faults/test_answers.py::test_a_wrong_answer_is_no_result[whisper-MEAN_LOGPROB-nan]",),
    ),
    Mutant(
        name="unbounded_outbox",
        text="the outbox has no bound",
        proofs=(8, 11),
        edits=(Edit("workers/relay.py", "        if self._depth > self._limit:", "        if False:"),),
        tests=("tests/workers/test_relay.py::test_the_relay_sees_the_outbox_grow_while_it_waits_for_kafka",),
    ),
    Mutant(
        name="letters_too_large",
        text="a dead letter is published with its value, however large",
        proofs=(11,),
        edits=(
            Edit(
                "workers/dead_letter.py",
                "    if value is not None and size(key, [*theirs, *ours], value) > LARGEST_RECORD:",
                "    if False:",
            ),
        ),
        tests=("tests/workers/test_dead_letter.py::test_any_record_that_kafka_took_fits_its_dead_letter_topic",),
    ),
    Mutant(
        name="answers_forgotten",
        text="a batch that is tried again asks the models for everything again",
        proofs=(9, 10),
        edits=(Edit("workers/stage.py", "        if name not in self.answers:", "        if True:"),),
        tests=("tests/workers/test_answers.py::test_a_batch_that_is_tried_again_asks_only_for_what_failed",),
    ),
    Mutant(
        name="relay_overtakes",
        text="the relay sends a key's next message before the one before is acknowledged",
        proofs=(5,),
        edits=(Edit("workers/relay.py", "            for turn in turns(rows):", "            for turn in [rows]:"),),
        tests=("tests/workers/test_relay.py::test_a_message_that_fails_is_not_overtaken_by_a_newer_one_of_its_key",),
    ),
    Mutant(
        name="no_outbox_id",
        text="the relay leaves out the header outbox_id",
        proofs=(10,),
        edits=(
            Edit(
                "workers/relay.py",
                'headers = [*row.headers, ("outbox_id", str(row.id).encode())]',
                "headers = list(row.headers)",
            ),
        ),
        tests=("tests/faults/test_poison.py::test_poison_few_many_and_within",),
    ),
    Mutant(
        name="newest_first",
        text="the relay publishes the newest messages first",
        proofs=(10,),
        edits=(Edit("store/outbox.py", "ORDER BY id LIMIT", "ORDER BY id DESC LIMIT"),),
        tests=("tests/faults/test_poison.py::test_poison_few_many_and_within",),
    ),
    Mutant(
        name="retry_for_ever",
        text="whatever Postgres says is tried again for ever",
        proofs=(8,),
        edits=(Edit("workers/postgres.py", "        if passes(err):", "        if True:"),),
        tests=("tests/workers/test_postgres.py::test_what_never_passes_is_not_waited_for",),
    ),
    Mutant(
        name="truncated_log_believed",
        text="a log that ends before the watermark is read on",
        proofs=(12,),
        edits=(Edit("workers/ownership.py", "    if missing:", "    if False:"),),
        tests=(TEST_LOOP + "test_a_log_that_ends_before_the_watermark_is_not_read",),
    ),
    Mutant(
        name="lost_range_forgotten",
        text="offsets that Kafka dropped before they were read are skipped without a word",
        proofs=(12,),
        edits=(
            Edit(
                "store/ledger.py",
                '    await conn.execute(_LOST, {"ledger_id"',
                '    await conn.execute(_SKIP, {"ledger_id": 0, "log_start": 0}) if lost else '
                'await conn.execute(_LOST, {"ledger_id"',
            ),
        ),
        tests=(
            TEST_LOOP + "test_a_log_trimmed_past_the_watermark_is_noted",
            "tests/faults/test_restore.py::test_a_log_trimmed_past_the_watermark",
        ),
    ),
    Mutant(
        name="calls_left_behind",
        text="calls that are open stay with a topic that was deleted",
        proofs=(12,),
        edits=(
            Edit("store/segmenter.py", "    for (before,) in former.all():", "    for (before,) in former.all()[:0]:"),
        ),
        tests=("tests/workers/test_open_calls.py::test_an_open_call_goes_on_in_a_topic_that_was_made_again",),
    ),
    Mutant(
        name="summarized_too_early",
        text="a call that this database has not seen transcribed is summarized",
        proofs=(12,),
        edits=(
            Edit(
                "workers/summarizer.py",
                "            elif not await self._is_transcribed(event):",
                "            elif False:",
            ),
        ),
        tests=("tests/workers/test_repeats.py::test_a_call_that_is_not_transcribed_is_not_summarized",),
    ),
    Mutant(
        name="half_call_speaks",
        text="utterances of a call are produced before it has a row",
        proofs=(1, 12),
        edits=(Edit("workers/segmenter.py", "        if not heard:\n", "        if True:\n"),),
        tests=("tests/workers/test_open_calls.py::test_the_refused_half_of_a_call_produces_nothing",),
    ),
    Mutant(
        name="open_calls_unbounded",
        text="every open call stays in memory",
        proofs=(13,),
        edits=(
            Edit(
                "workers/open_calls.py",
                "        while self._bytes > self._limit_bytes and self._held:",
                "        while False:",
            ),
        ),
        tests=("tests/workers/test_open_calls.py::test_a_call_that_left_memory_goes_on_as_if_it_had_not",),
    ),
    Mutant(
        name="unbounded_queue",
        text="a batch is bounded by the number of its records only",
        proofs=(13,),
        edits=(
            Edit(
                "workers/intake.py",
                " or (self._bytes and self._bytes + size > self._limit_bytes):",
                ":",
            ),
        ),
        tests=("tests/workers/test_intake.py",),
    ),
    Mutant(
        name="one_lane",
        text="a partition's batch waits until those of the others are done",
        proofs=(2,),
        edits=(
            Edit(
                "workers/lanes.py",
                "            await self._take(batch)\n",
                "            async with self.__dict__.setdefault('turn', asyncio.Lock()):\n"
                "                await self._take(batch)\n",
            ),
        ),
        tests=("tests/workers/test_lanes.py::test_no_lane_waits_for_anothers_batch",),
    ),
    Mutant(
        name="strict_names",
        text="a header's name must be UTF-8",
        proofs=(10,),
        edits=(Edit("workers/lenient.py", "    fetcher.MemoryRecords = Records", "    pass"),),
        tests=("tests/workers/test_lenient.py",),
    ),
    Mutant(
        name="drop_instead_of_letter",
        text="a dead letter that its table refuses is dropped",
        proofs=(11,),
        edits=(
            Edit(
                LOOP,
                "            await dead_letters.insert(connection, work.dead_letters)",
                "            try:\n"
                "                async with connection.begin_nested():\n"
                "                    await dead_letters.insert(connection, work.dead_letters)\n"
                "            except DBAPIError:\n"
                "                pass",
            ),
        ),
        tests=("tests/faults/test_dead_letters.py::test_a_dead_letter_table_that_takes_nothing[disk_full]",),
    ),
    Mutant(
        name="kafka_is_always_there",
        text="a broker that is away, or does not take a message, is an error nobody foresaw",
        proofs=(5, 7),
        edits=(
            Edit(
                "workers/access.py",
                '        raise Transient(f"{place} (connection refused)") from err',
                '        raise ValueError(f"{place} (connection refused)") from None',
            ),
            Edit(
                "workers/kafka.py",
                'Undelivered(f"Kafka did not take it within',
                'ValueError(f"Kafka did not take it within',
            ),
            Edit("workers/kafka.py", 'Undelivered(f"Kafka did not take it (', 'ValueError(f"Kafka did not take it ('),
            Edit("workers/relay.py", "if not isinstance(error, KafkaError | TimeoutError):", "if True:"),
            Edit(
                "workers/app.py",
                '        raise Transient(f"Kafka does not answer',
                '        raise ValueError(f"Kafka does not answer',
            ),
        ),
        tests=("tests/faults/test_kafka.py::test_hard_restart",),
    ),
    Mutant(
        name="postgres_is_always_there",
        text="a connection to Postgres that breaks is an error nobody foresaw",
        proofs=(7, 8),
        edits=(
            Edit("workers/postgres.py", "        if passes(err):", "        if False:"),
            Edit("workers/postgres.py", "        if not err.connection_invalidated:", "        if True:"),
        ),
        tests=("tests/faults/test_network.py::test_resets",),
    ),
    Mutant(
        name="ready_is_healthy",
        text="the supervisor asks Triton whether it is ready, instead of sending a canary",
        proofs=(9,),
        edits=(Edit("stack/canary.py", "            if self.inputs is None:", "            if True:"),),
        tests=("tests/faults/test_triton.py::test_an_ill_triton_is_replaced",),
    ),
    Mutant(
        name="any_answer_is_healthy",
        text="the supervisor's canary takes an answer of any shape and number for one",
        proofs=(9,),
        edits=(
            Edit(
                "stack/canary.py",
                "        return shaped and (value.dtype.kind",
                "        return True or (value.dtype.kind",
            ),
        ),
        tests=("tests/faults/test_triton.py::test_an_ill_triton_is_replaced",),
    ),
    Mutant(
        name="busy_is_ill",
        text="a canary that waits in a full queue is an illness, although others get answers",
        proofs=(9,),
        edits=(
            Edit(
                "stack/canary.py",
                "        return sound if sound is not None else before >= 0 and self.succeeded > before",
                "        return bool(sound)",
            ),
        ),
        tests=("tests/faults/test_triton.py::test_a_full_queue_is_no_illness",),
    ),
    Mutant(
        name="dropped",
        text="what can never succeed is dropped instead of becoming a dead letter",
        proofs=(10, 11),
        edits=(
            Edit(
                "workers/stage.py",
                "        self.dead_letters.append(dead_letter(batch.key, record, error))",
                "        dead_letter(batch.key, record, error)",
            ),
        ),
        tests=("tests/faults/test_poison.py::test_poison_few_many_and_within",),
    ),
    Mutant(
        name="replayed_again",
        text="a dead letter is replayed as often as somebody asks",
        proofs=(10,),
        edits=(
            Edit("commands/deadletters.py", "    if one.replayed_at is not None:", "    if False:"),
            Edit("commands/deadletters.py", "locked is None or locked.replayed_at is not None", "locked is None"),
        ),
        tests=("tests/commands/test_deadletters.py::test_a_record_is_replayed_once",),
    ),
    Mutant(
        name="no_limit",
        text="dead letters have no limit",
        proofs=(10,),
        edits=(Edit("workers/limit.py", "    if count > most_in_a_row:", "    if False:"),),
        tests=("tests/faults/test_poison.py::test_past_the_limit_it_stops_rather_than_drops",),
    ),
    Mutant(
        name="no_deadline",
        text="a batch is tried without a deadline",
        proofs=(22,),
        edits=(Edit(LOOP, "asyncio.timeout(self._batch_deadline_seconds)", "asyncio.timeout(None)"),),
        tests=("tests/faults/test_properties.py::test_the_retry_schedule[500]",),
    ),
    Mutant(
        name="pauses_without_bound",
        text="the pauses between tries double without a bound",
        proofs=(22,),
        edits=(Edit(LOOP, "pause = min(LONGEST_PAUSE, pause * 2)", "pause = pause * 2"),),
        tests=("tests/faults/test_properties.py::test_the_retry_schedule[500]",),
    ),
    Mutant(
        name="ids_run_together",
        text="an utterance's id forgets its channel",
        proofs=(22,),
        edits=(
            Edit("stream/ids.py", '"utterance", call_id, channel, start_sample', '"utterance", call_id, start_sample'),
        ),
        tests=("tests/faults/test_properties.py::test_an_id_is_its_content[500]",),
    ),
    Mutant(
        name="quoting",
        text="the reason of a dead letter quotes the record's key",
        proofs=(21,),
        edits=(
            Edit(
                "workers/stage.py",
                "self.dead_letters.append(dead_letter(batch.key, record, error))",
                "self.dead_letters.append(dead_letter(batch.key, record, Permanent(error.reason, repr(record.key))))",
            ),
        ),
        tests=("tests/faults/test_canary_strings.py::test_no_canary_is_told",),
    ),
    Mutant(
        name="unpacks_whole",
        text="a Kafka batch is unpacked however much that is",
        proofs=(19,),
        edits=(Edit("workers/unpacking.py", "    if unpack is None:", "    if True:"),),
        tests=("tests/workers/test_compression.py",),
    ),
)
