"""Reviews: how many a second from Kafka to Postgres, and how long one takes at 60 % of that."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from bench.cpu import cpu
from bench.load import review_texts
from bench.result import Result, percentile
from bench.rig import MODELS, REAL, Rig
from bench.size import Size
from bench.sources import Reviews
from bench.tight import Tight, tight
from workers.inference import MOST_TEXTS

__all__ = ["LOAD", "WARM_SECONDS", "reviews"]

LOAD = 0.6
#: Connections, caches and branch predictors warm up in this time; what is sent in it does not count.
WARM_SECONDS = 5.0
WARM_REVIEWS = 200


def reviews(rig: Rig, size: Size, say: Callable[[str], None]) -> Iterator[Result]:
    """Real models; without their weights stand-ins, and then there is no baseline."""
    count = size.reviews
    texts = (review_texts() * (count // len(review_texts()) + 1))[:count]
    alone = [[text] for text in texts]
    bundles = [texts[at : at + MOST_TEXTS] for at in range(0, count, MOST_TEXTS)]  # a request's worth
    source = Reviews()
    with rig.site("reviews") as site:
        source.start(site)
        source.backlog(site, WARM_REVIEWS, size.patience_seconds, say)
        before = [tight(review_models, items) for items in (alone, bundles)] if REAL else []
        found = source.backlog(site, count, size.patience_seconds, say)
        after = [tight(review_models, items) for items in (alone, bundles)] if REAL else []
        pairs = list(zip(before, after, strict=True))
        one_by_one, together = [2 * count / (a.seconds + b.seconds) for a, b in pairs] or (None, None)
        models = mean_cpu(pairs[1]) if pairs else None
        yield from cpu("review", found.parts, count, models=models, capacity=REAL)
        yield against("reviews_per_second", found.rate, one_by_one)
        yield against("reviews_per_second_to_bundled_models", found.rate, together)
        pace = LOAD * found.rate
        say(f"{pace:.0f} reviews a second for {size.delay_seconds:.0f} s")
        flow = source.flow(site, pace, WARM_SECONDS, size.delay_seconds)
        delays = source.delays(site, flow, size.patience_seconds)
        for percent in (50, 95, 99):
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
