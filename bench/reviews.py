"""Reviews: how many a second from Kafka to Postgres, and how long one takes at 60 % of that."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from bench.load import review_texts, send_reviews
from bench.result import Result, percentile
from bench.rig import MODELS, REAL, Rig
from bench.size import Size
from bench.tight import Tight, tight
from stream.producers import ReviewProducer
from workers.inference import MOST_TEXTS

__all__ = ["LOAD", "cpu", "reviews", "spent"]

LOAD = 0.6
#: Connections, caches and branch predictors warm up in this time; what is sent in it does not count.
WARM_SECONDS = 5.0


def reviews(rig: Rig, size: Size, say: Callable[[str], None]) -> Iterator[Result]:
    """Real models; without their weights stand-ins, and then there is no baseline."""
    count = size.reviews
    texts = (review_texts() * (count // len(review_texts()) + 1))[:count]
    alone = [[text] for text in texts]
    bundles = [texts[at : at + MOST_TEXTS] for at in range(0, count, MOST_TEXTS)]  # a request's worth
    with rig.site("reviews") as site:
        say(f"{count} reviews into Kafka")
        with ReviewProducer(site.settings.kafka_bootstrap_servers, prefix=site.topics.prefix) as producer:
            send_reviews(producer, "r", count)
        before = [tight(review_models, items) for items in (alone, bundles)] if REAL else []
        say("the reviewer works through them")
        used = rig.cpu_seconds()
        site.start("reviewer")
        site.wait(lambda: site.done("reviewer") >= count, size.patience_seconds)
        parts = spent(rig, used, say)
        ((seconds, rows),) = site.rows(
            "SELECT extract(epoch FROM max(committed_at) - (SELECT max(created_at) FROM ingest.ledger))::float8, count(*)"
            " FROM ingest.reviews"
        )
        rate = rows / seconds
        after = [tight(review_models, items) for items in (alone, bundles)] if REAL else []
        pairs = list(zip(before, after, strict=True))
        one_by_one, together = [2 * count / (a.seconds + b.seconds) for a, b in pairs] or (None, None)
        yield from cpu("review", parts, mean_cpu(pairs[1]) if pairs else None, rows)
        yield against("reviews_per_second", rate, one_by_one)
        yield against("reviews_per_second_to_bundled_models", rate, together)
        pace = LOAD * rate
        say(f"{pace:.0f} reviews a second for {size.delay_seconds:.0f} s")
        with ReviewProducer(site.settings.kafka_bootstrap_servers, prefix=site.topics.prefix) as producer:
            paced = int(pace * (WARM_SECONDS + size.delay_seconds))
            send_reviews(producer, "paced", paced, pace)
        site.wait(lambda: site.done("reviewer") >= count + paced, size.patience_seconds)
        delays = [
            row[0]
            for row in site.rows(
                "SELECT 1000 * extract(epoch FROM committed_at - source_at)::float8 FROM ingest.reviews"
                " WHERE review_id LIKE 'paced-%%' AND source_at > (SELECT min(source_at) FROM ingest.reviews"
                " WHERE review_id LIKE 'paced-%%') + make_interval(secs => %s)",
                WARM_SECONDS,
            )
        ]
        for percent in (50, 95):
            yield Result(name=f"review_delay_p{percent}", value=percentile(delays, percent), unit="ms at 60 % load")


def mean_cpu(runs: tuple[Tight, Tight]) -> float:
    return sum(run.cpu_seconds for run in runs) / 2


def against(name: str, rate: float, baseline: float | None) -> Result:
    # With less than 1 ms a review and core, it is not the models that take the time.
    least = 0.7 if baseline and baseline > 2 * 1000 else 0.85
    met = rate / baseline >= least if baseline else None
    return Result(name=name, value=rate, unit="1/s", baseline=baseline, target=f"ratio {least}", met=met)


def review_models() -> Callable[[Sequence[str]], object]:
    """Both models as the reviewer uses them: the aspects of some texts, then the polarity of each."""
    from sentiment.serve import AspectModel, PolarityModel

    aspects, polarity = AspectModel(MODELS / "aspects" / "1"), PolarityModel(MODELS / "cvib" / "1")

    def some(texts: Sequence[str]) -> object:
        found = zip(texts, aspects.find_all(texts), strict=True)
        return polarity.judge(
            [pair for text, spans in found for pair in polarity.pairs(text, [(span.start, span.end) for span in spans])]
        )

    return some


def spent(rig: Rig, before: dict[str, float], say: Callable[[str], None]) -> dict[str, float]:
    """CPU seconds of each server and worker since `before`; a worker is named by its stage."""
    now = rig.cpu_seconds()
    parts = {name.rpartition("-")[2]: seconds - before.get(name, 0.0) for name, seconds in now.items()}
    parts = {name: seconds for name, seconds in sorted(parts.items()) if seconds > 0}
    say("CPU seconds: " + ", ".join(f"{name} {seconds:.1f}" for name, seconds in parts.items()))
    return parts


def cpu(name: str, parts: dict[str, float], models: float | None, count: float) -> Iterator[Result]:
    """CPU time for one of `count`, of each process and of all; `models`: CPU seconds of the models alone.

    Other work on the machine hardly changes it; the ratio is what the throughput's would be if no core ever waited.
    """
    for part, seconds in parts.items():
        yield Result(name=f"{name}_cpu_{part}", value=1000 * seconds / count, unit="CPU-ms")
    total = sum(parts.values())
    yield Result(
        name=f"{name}_cpu",
        value=1000 * total / count,
        unit="CPU-ms",
        baseline=1000 * models / count if models else None,
        cost=True,
    )
