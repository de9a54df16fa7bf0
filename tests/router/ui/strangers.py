"""Texts that would do something on a page that does not look after itself, and traces full of them."""

from __future__ import annotations

from icl_engine.task import Limits, Task
from policies.ledger import Ledger
from policies.records import OutcomeRow
from router.trace import DecisionGrounds, NearestTask
from tests.router.ui.samples import answer, record, trace_of

HOSTILE = (
    "<script>window.pwned = 1</script>",
    "</script><script>window.pwned = 1</script>",
    '<img src=x onerror="window.pwned = 1">',
    "<svg onload='window.pwned = 1'>",
    "</svg><script>window.pwned = 1</script>",
    "</title><script>window.pwned = 1</script>",
    "</style><script>window.pwned = 1</script>",
    "</textarea><script>window.pwned = 1</script>",
    "<iframe src='javascript:window.pwned = 1'></iframe>",
    "<a href='javascript:window.pwned = 1'>press</a>",
    "<form action='http://192.0.2.1/'><input name=token></form>",
    "<meta http-equiv=refresh content='0;url=http://192.0.2.1/'>",
    "<link rel=stylesheet href=http://192.0.2.1/a.css>",
    "<base href='http://192.0.2.1/'>",
    "<object data='http://192.0.2.1/a.swf'></object>",
    "<math><mi xlink:href='javascript:window.pwned = 1'>x</mi></math>",
    "<details open ontoggle='window.pwned = 1'>",
    "<body onload='window.pwned = 1'>",
    "<style>body { display: none }</style>",
    "<div hx-get='/policies' hx-trigger='load'>",
    "<div hx-on:load='window.pwned = 1'>",
    "<template><script>window.pwned = 1</script></template>",
    "<!-- comment",
    "--><script>window.pwned = 1</script>",
    "<![CDATA[ x ]]>",
    '" onmouseover="window.pwned = 1',
    "' onfocus='window.pwned = 1' autofocus='",
    "` onclick=`window.pwned = 1`",
    "javascript:window.pwned = 1",
    "{{ 7 * 7 }}",
    "{% raw %}{% endraw %}{% include '/etc/passwd' %}",
    "${7*7} #{7*7} <%= 7*7 %>",
    "&lt;script&gt; &amp;amp; &#60;script&#62;",
    "'; DROP TABLE decisions; --",
    "../../../etc/passwd%00",
    "\u202eright to left\u202c",
    "zero\u200bwidth\ufeffmarks",
    "bell \x07, escape \x1b[31m, delete \x7f",
    "e\u0301\u0302\u0303\u0304\u0305\u0306\u0307 and \U0001f469\u200d\U0001f4bb",
    "long " + "A" * 1500,
)


def fill(ledger: Ledger) -> None:
    """Write `hostile`: every text as a demonstration, and some wherever else a trace has room for one."""
    task = Task.parse(
        {
            "id": HOSTILE[0],
            "instruction": HOSTILE[2],
            "demonstrations": [{"input": text, "output": f"{text} {i}"} for i, text in enumerate(HOSTILE)],
            "queries": [HOSTILE[4]],
        }
    )
    grounds = DecisionGrounds(
        nearest=(NearestTask(task_id=HOSTILE[5], distance=1.0, best_arm=HOSTILE[6], gain=0.5),), stage=HOSTILE[7]
    )
    given = answer((HOSTILE[1], 5), (HOSTILE[17], 3))
    trace = trace_of(
        task, given, trace_id="hostile", degraded=HOSTILE, grounds=grounds, reason=HOSTILE[3], policy=HOSTILE[25]
    )
    record(ledger, trace)
    ledger.add_outcome(OutcomeRow("hostile", HOSTILE[26], HOSTILE[2], 1.0))


def long_text(n_chars: int) -> Task:
    """A task with one very long text, beyond the ordinary limits."""
    pairs = [{"input": "a", "output": "b"}, {"input": "b", "output": "c"}]
    limits = Limits(max_text_chars=n_chars, max_task_chars=2 * n_chars, max_task_json_chars=4 * n_chars)
    return Task.parse({"demonstrations": pairs, "queries": ["q" * n_chars]}, limits)
