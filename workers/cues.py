"""The words by which extractive.py knows trouble, promises and settlements in an English call.

All patterns read the plain form that `plain` makes of a sentence: lower case, no contractions, no
punctuation, one space between words. They are general: no word is here for the sake of one call.
"""

from __future__ import annotations

import re

__all__ = [
    "ACCEPTS", "ANSWER", "ASKED", "CLOCK", "DAY", "DONE", "GETS", "HELPS", "HOPE", "OBJECTS", "PROMISE", "REASON", "REFUSED",
    "SELF", "SERVICE", "SETTLED", "SETTLES", "THANKS", "TROUBLE", "WISH", "plain",
]  # fmt: skip


def plain(text: str) -> str:
    """`I can't, it's broken!` -> `i can not it is broken`."""
    text = text.lower().replace("’", "'")
    text = re.sub(r"\bwon't\b", "will not", re.sub(r"\bcan(?:'t|not)\b", "can not", text))
    text = text.replace("n't", " not").replace("'ll", " will").replace("'m", " am").replace("'re", " are")
    text = (
        re.sub(r"\b(it|that|there|here|what|he|she)'s\b", r"\1 is", text)
        .replace("'ve", " have")
        .replace("'d", " would")
    )
    return " ".join(re.findall(r"\w+", text))


def _any(words: str) -> re.Pattern[str]:
    """Any of the patterns between `/`, as whole words; line breaks do not count."""
    parts = [" ".join(part.split()) for part in words.split("/")]
    return re.compile(r"\b(?:" + "|".join(parts) + r")\b")


def _words(words: str) -> frozenset[str]:
    return frozenset(words.split())


#: Each kind of trouble counts once, however many of its words a sentence has.
TROUBLE = (
    _any("(?:did|does|do|is|was|are|were|has|have|had|can|could|will|would) not/never/nobody/no one/no longer"),
    _any(r"problems?/issues?/trouble/wrong/errors?/mistake/complain\w*/dispute"),
    _any(r"broke\w*/breaks?/crash\w*/fail\w*/fault\w*/defect\w*/damage\w*/crack\w*/leak\w*"),
    _any(r"stuck/stop(?:s|ped)/drop(?:s|ped|ping)/dies/died/dead/freez\w*/froze\w*/disconnect\w*"),
    _any(r"lost/missing/late/delay\w*/slow\w*/waiting for/expired/outage/down"),
    _any(r"nois[ye]\w*/dirty/smell\w*/cold/filthy/swollen/stained"),
    _any(r"overcharg\w*/charged/fees?/declined/locked/blocked/stolen/stole/fraud\w*/twice"),
    _any(r"accident/hit/injur\w*/emergency"),
    _any(r"frustrat\w*/terrible/awful/horrible/unacceptable/fed up/upset/angry/annoy\w*"),
    _any(r"disappoint\w*/ruin\w*/mess/worst/confus\w*/ridiculous/too (?:high|long|much|expensive|small|loud|late)"),
)
REASON = _any(
    """(?:am|was) calling (?:in |you )?(?:today )?(?:about|because|regarding|to)/the (?:problem|issue|trouble|thing) is/
    i have (?:a|an) (?:problem|issue|question|complaint)/there is (?:a|an|something)"""
)
WISH = _any(
    r"i (?:would like|want|need|am trying|was trying|am looking) (?:to|for|a|an|my|some)/how (?:do|can) i/i wonder\w*"
)
ANSWER = re.compile(r"^(?:yes|yeah|no|sure|okay|right|correct)\b")
HOPE = _any(r"hope\w*/if i/i wish")
THANKS = _any("thanks?/appreciate/great/perfect/wonderful/excellent/generous/lovely")
#: What the one who serves says: on mono calls this keeps the agent's words out of the issue.
SERVICE = _any(
    r"""(?:thank you|thanks) for (?:calling|waiting|holding|your patience)/how (?:can|may) i help/(?:can|may|could) (?:i|you)/
    (?:am|are) (?:very |really |so )?sorry/apologi[sz]e\w*/let me/speaking/i understand/your? (?:account|warranty|line)"""
)

PROMISE = re.compile(
    r"\b(?:(?:i|we) (?:will|can|am going to|are going to|would like to|have to)|let me)"
    r"(?: (?:also|just|now|gladly|certainly|then|go ahead and))? (\w+)"
)
#: Verbs of a promise: what settles a matter, and what only helps with it.
SETTLES = _words(
    """book cancel change credit deliver exchange fix give grant honor honour issue pay process rebook refill refund reimburse
    reinstate remove repair replace reset resolve reverse schedule send ship unlock upgrade waive"""
)
HELPS = _words(
    """add apply arrange ask attach block call close contact email escalate extend file flag forward inform leave mail make mark
    note notify open order pass put raise register report request submit text transfer update"""
)
GETS = _any(
    r"""you (?:will|should) (?:now )?(?:receive|get|see|have|hear|find)/will (?:appear|arrive|be (?:\w+ed|sent|there|with you))/
    (?:will|is going to) (?:call|contact|email|reach|visit|write to) you"""
)
ASKED = _any(
    """please (?:bring|call|charge|check|fill|keep|mail|pay|plug|reply|reset|restart|return|send|ship|sign|switch|take|try|turn|
    unplug|update|use|visit|write)"""
)

SETTLED = _any(
    """(?:is|are|was|has been|have been|will be|now|all|i have|we have|just)(?: already| now)?
    (?:approved|booked|canceled|cancelled|changed|corrected|credited|delivered|done|fixed|issued|processed|refunded|reimbursed|removed|
    repaired|replaced|reset|resolved|restored|reversed|scheduled|sent|set|shipped|solved|sorted|unlocked|waived|working)/
    (?:that|it) (?:fixed|solved|worked|works)/(?:refund|credit|replacement|appointment|reservation) (?:will|is|has)/
    (?:i|we) have (?:you|an?) .{0,30}(?:appointment|reservation|booking)"""
)
DONE = re.compile(r"^(?:okay |all right |alright )?(?:all )?(?:done|booked|all set|that is done|it is done)\b")
REFUSED = _any(
    """unfortunately/unable to/not possible/not able to/not eligible/
    (?:i|we) can not (?:refund|waive|do|offer|change|cancel|give)"""
)
DAY = _any(
    r"""today/tonight/tomorrow/(?:mon|tues|wednes|thurs|fri|satur|sun)day/next week/(?:this|next) (?:morning|afternoon|evening)/
    \w+ days? from now"""
)
CLOCK = _any(
    r"""morning/afternoon/evening/noon/o clock/[ap] m/\d+ ?[ap]m/between \w+ and \w+/
    at (?:\d+|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve)"""
)
ACCEPTS = _any(
    """works/that is (?:fine|great|good|generous|perfect|okay|wonderful)/sounds good/great/perfect/thank(?:s| you)/appreciate/
    all right then/wonderful/excellent"""
)
SELF = _any("i/my/me")
OBJECTS = _any("but/not/no/too late/still")
