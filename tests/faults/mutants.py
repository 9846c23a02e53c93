"""The product with one of its protections taken out, and the tests that must turn red then.

`python -m tests.faults.mutate` applies each in a copy; test_tables.py sees that each still fits the code.
"""

from __future__ import annotations

from dataclasses import dataclass

from settings import PROJECT

__all__ = ["MUTANTS", "OUTCOMES", "Edit", "Mutant"]

OUTCOMES = PROJECT / "docs" / "results" / "mutants.json"

LOOP, TEST_LOOP = "workers/loop.py", "tests/workers/test_loop.py::"


@dataclass(frozen=True, slots=True)
class Edit:
    """`old` stands exactly once in the file."""

    path: str
    old: str
    new: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """`text` completes "the product, but"; `proofs` are the numbers of the tests that it stands against."""

    name: str
    text: str
    proofs: tuple[int, ...]
    edits: tuple[Edit, ...]
    tests: tuple[str, ...]


ACK_FIRST = Edit(
    LOOP,
    "        owned = self._ownership.partitions.get(partition)\n        if owned is None:\n            return\n        records",
    "        for event in events:\n            event.ack()\n        await asyncio.sleep(SECONDS)\n"
    "        owned = self._ownership.partitions.get(partition)\n        if owned is None:\n            return\n        records",
)
NO_GAP_CHECK = Edit(LOOP, "            if record.offset != expected:", "            if False:")
NO_SEEK = Edit(
    "workers/consumer.py",
    "        return found\n",
    "        for tp in found:\n            await self._seek(tp, 0)\n        return await super().seek_to_committed()\n",
)
NO_WATERMARK = Edit("store/ledger.py", " AND next_offset = :old AND epoch = :epoch", " AND :old >= 0 AND :epoch > 0")


def with_pause(edit: Edit, seconds: float) -> Edit:
    return Edit(edit.path, edit.old, edit.new.replace("SECONDS", str(seconds)))


MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        name="ack_first_and_believe_kafka",
        text="it acknowledges before the commit, and believes Kafka's committed offset",
        proofs=(1, 3),
        # Longer than faust takes to commit what is acknowledged (1 s).
        edits=(with_pause(ACK_FIRST, 2.5), NO_GAP_CHECK, NO_SEEK),
        tests=("tests/faults/test_kill.py::test_killed_once[4:inferred]",),
    ),
    Mutant(
        name="ack_first",
        text="it acknowledges before the commit",
        proofs=(2, 3),
        edits=(with_pause(ACK_FIRST, 0),),
        tests=(
            TEST_LOOP + "test_acknowledges_in_order_and_only_after_the_commit",
            TEST_LOOP + "test_an_unknown_error_leaves_everything_unacknowledged",
        ),
    ),
    Mutant(
        name="ack_out_of_order",
        text="it acknowledges out of order",
        proofs=(2,),
        edits=(
            Edit(
                LOOP,
                '        self._on_step("5:committed")\n        for event in events:',
                '        self._on_step("5:committed")\n        for event in reversed(events):',
            ),
        ),
        tests=(TEST_LOOP + "test_acknowledges_in_order_and_only_after_the_commit",),
    ),
    Mutant(
        name="no_ledger",
        text="no ledger: whatever Kafka delivers is worked on, whatever the watermark says",
        proofs=(1, 3, 12),
        edits=(
            NO_WATERMARK,
            NO_GAP_CHECK,
            NO_SEEK,
            Edit(LOOP, "if record.offset >= owned.position.next_offset]", "if record.offset >= 0]"),
            # The watermark may go back, and the second verdict goes nowhere: else Postgres itself would refuse it.
            Edit("store/ledger.py", "    if new_offset < position.next_offset:", "    if False:"),
            Edit(
                "store/ledger.py",
                '_VERDICTS.sql.partition(" ON CONFLICT")[0]',
                '_VERDICTS.sql.partition(" ON CONFLICT")[0] + " ON CONFLICT DO NOTHING"',
            ),
        ),
        tests=("tests/faults/test_kill.py::test_killed_once[5:committed]",),
    ),
    Mutant(
        name="no_key",
        text="no key: an utterance's id comes from chance, not from its content",
        proofs=(1, 3),
        edits=(
            Edit(
                "stream/ids.py",
                '    return uuid5(\n        NAMESPACE, json.dumps(["utterance"',
                '    from uuid import uuid4\n\n    return uuid5(\n        uuid4(), json.dumps(["utterance"',
            ),
        ),
        tests=("tests/faults/test_kill.py::test_a_segmenter_killed_between_kafka_and_postgres",),
    ),
    Mutant(
        name="no_epoch",
        text="no epoch: a watermark where it was left is enough to write",
        proofs=(6, 22),
        edits=(Edit("store/ledger.py", " AND epoch = :epoch", " AND :epoch > 0"),),
        tests=(
            TEST_LOOP + "test_a_former_owner_writes_nothing_even_before_the_new_one_did",
            "tests/store/test_ledger.py::test_any_history_of_owners",
        ),
    ),
    Mutant(
        name="no_compare_and_set",
        text="no compare-and-set: neither epoch nor watermark is compared",
        proofs=(6, 22),
        edits=(NO_WATERMARK,),
        tests=(
            TEST_LOOP + "test_a_former_owner_writes_nothing_even_before_the_new_one_did",
            "tests/store/test_ledger.py::test_any_history_of_owners",
        ),
    ),
    Mutant(
        name="no_gap_check",
        text="it does not look at gaps in the offsets",
        proofs=(12,),
        edits=(NO_GAP_CHECK,),
        tests=(TEST_LOOP + "test_a_gap_in_the_delivery_is_no_progress",),
    ),
    Mutant(
        name="commit_again",
        text="an unknown outcome of COMMIT is tried again in place",
        proofs=(3, 8),
        edits=(Edit(LOOP, "        raise CommitUnknown(f", "        raise Transient(f"),),
        tests=(TEST_LOOP + "test_a_backend_that_dies_before_the_commit_is_transient_or_unknown",),
    ),
    Mutant(
        name="verdict_forgiven",
        text="a record without a verdict is forgiven",
        proofs=(22,),
        edits=(
            Edit(
                LOOP,
                "            if set(work.verdicts) != {record.offset for record in batch.records}:",
                "            if False:",
            ),
        ),
        tests=(TEST_LOOP + "test_a_record_without_a_verdict_rolls_everything_back",),
    ),
    Mutant(
        name="deaths_of_others",
        text="deaths that are no record's fault count against it",
        proofs=(10,),
        edits=(Edit(LOOP, "        return before\n", "        return before + GIVE_UP_AFTER\n"),),
        tests=(TEST_LOOP + "test_deaths_that_are_no_records_fault_bury_nothing",),
    ),
    Mutant(
        name="deaths_of_neighbours",
        text="a death counts against every partition in hand",
        proofs=(10,),
        edits=(Edit(LOOP, "            if alone or before < SUSPECT_AFTER:", "            if True:"),),
        tests=(TEST_LOOP + "test_a_death_counts_against_no_record_of_another_partition",),
    ),
    Mutant(
        name="published_outside",
        text="messages are published outside the transaction",
        proofs=(3,),
        edits=(
            Edit(
                LOOP,
                "            await outbox.put(connection, [*work.outbox, *buried])",
                "            async with self._engine.begin() as other:\n"
                "                await outbox.put(other, [*work.outbox, *buried])\n"
                "            await asyncio.sleep(1.5)  # the relay is quick",
            ),
        ),
        tests=("tests/faults/test_kill.py::test_killed_once[5:written]",),
    ),
    Mutant(
        name="closed_too_early",
        text="call.closed is produced before the call's last utterance",
        proofs=(1, 3),
        edits=(
            Edit(
                "workers/segmenter.py",
                "        await self._produce(utterances)\n        await self._produce(ends)",
                "        await self._produce(ends)\n        await self._produce(utterances)",
            ),
        ),
        tests=("tests/workers/test_repeats.py::test_no_end_of_a_call_reaches_kafka_before_its_utterances",),
    ),
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
        name="retry_for_ever",
        text="whatever Postgres says is tried again for ever",
        proofs=(8,),
        edits=(Edit("workers/reading.py", "        if passes(err):", "        if True:"),),
        tests=("tests/workers/test_reading.py::test_what_never_passes_is_not_waited_for",),
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
                "        while self._bytes and self._bytes + size > self._limit_bytes:",
                "        while False:",
            ),
        ),
        tests=("tests/workers/test_intake.py",),
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
        name="unsafe_head",
        text="each record of a batch is acknowledged as it is taken, before the work on it is done",
        proofs=(2,),
        edits=(with_pause(ACK_FIRST, 0), NO_SEEK, NO_GAP_CHECK),
        tests=("tests/faults/test_order.py::test_nothing_overtakes_the_head[middle]",),
    ),
    Mutant(
        name="from_the_start",
        text="after each rebalance a partition is read from its beginning, and the ledger drops what is known",
        proofs=(4, 15),
        edits=(
            Edit(
                "workers/consumer.py",
                "            await self._seek(tp, offset)\n",
                "            await self._seek(tp, 0)\n",
            ),
        ),
        tests=("tests/faults/test_rebalance.py::test_workers_come_and_go",),
    ),
    Mutant(
        name="kafka_is_always_there",
        text="a broker that does not take a message is an error nobody foresaw",
        proofs=(5, 7),
        edits=(
            Edit("workers/kafka.py", 'Transient(f"Kafka did not take it', 'ValueError(f"Kafka did not take it'),
            Edit("workers/relay.py", "except (DBAPIError, KafkaError, OSError)", "except (DBAPIError, OSError)"),
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
            Edit("workers/reading.py", "        if passes(err):", "        if False:"),
            Edit("workers/reading.py", "        if not err.connection_invalidated:", "        if True:"),
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
        edits=(Edit("stack/canary.py", "        if dims is None:", "        if True:"),),
        tests=("tests/faults/test_triton.py::test_an_ill_triton_is_replaced",),
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
)
