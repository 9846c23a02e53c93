"""Mutants of the seven steps: ledger, epoch, keys, acknowledgement, transaction."""

from __future__ import annotations

from tests.faults.mutant import LOOP, TEST_LOOP, Edit, Mutant

__all__ = ["DELIVERY"]

ACK_FIRST = Edit(
    LOOP,
    "        partition = owned.key.partition\n        records",
    "        for event in events:\n            event.ack()\n        await asyncio.sleep(SECONDS)\n"
    "        partition = owned.key.partition\n        records",
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


DELIVERY: tuple[Mutant, ...] = (
    Mutant(
        name="ack_first_and_believe_kafka",
        text="it acknowledges before the commit, and believes Kafka's committed offset",
        proofs=(1, 3),
        # Longer than faust takes to commit what is acknowledged (1 s).
        edits=(with_pause(ACK_FIRST, 2.5), NO_GAP_CHECK, NO_SEEK),
        tests=(
            "tests/faults/test_kill.py::test_killed_once[4:inferred]",
            "tests/faults/test_storm.py::test_storm",
        ),
    ),
    Mutant(
        name="ack_first",
        text="it acknowledges before the commit",
        proofs=(2, 3, 8),
        edits=(with_pause(ACK_FIRST, 0),),
        tests=(
            "tests/faults/test_postgres.py::test_a_lock_that_outlasts_the_timeout",
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
                "_VERDICTS.statement,",
                'sa.text(_VERDICTS.sql + " ON CONFLICT DO NOTHING"),',
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
            "tests/faults/test_zombie.py::test_a_zombie_of_each_stage[4:inferred]",
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
        name="no_seek",
        text="no seek to the watermark: reading begins where Kafka believes the group to be",
        proofs=(12,),
        edits=(NO_SEEK,),
        tests=("tests/faults/test_restore.py::test_postgres_restored_to_an_older_state",),
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
        tests=("tests/workers/test_blame.py::test_deaths_that_are_no_records_fault_bury_nothing",),
    ),
    Mutant(
        name="deaths_of_neighbours",
        text="a death counts against every partition in hand",
        proofs=(10,),
        edits=(Edit(LOOP, "            if alone or before < SUSPECT_AFTER:", "            if True:"),),
        tests=("tests/workers/test_blame.py::test_a_death_counts_against_no_record_of_another_partition",),
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
                "        found = {tp: offsets[tp.partition] for tp",
                "        found = {tp: 0 for tp",
            ),
        ),
        tests=("tests/faults/test_rebalance.py::test_workers_come_and_go[40]",),
    ),
)
