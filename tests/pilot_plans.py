"""Plans of the autopilot for tests: of the digits, with the least of everything."""

import msgspec

from spos.pilot.facts import DIGITS, Facts
from spos.pilot.plan import Shape, make_plan
from spos.pilot.rates import Rates
from spos.pilot.settings import Setting

FACTS = Facts(
    kind=DIGITS,
    layout="the digits of the installation",
    where=DIGITS,
    num_train=1437,
    num_test=360,
    num_classes=10,
    smallest=139,
    largest=146,
    side=32,
    num_bytes=1126,
    num_bad=0,
    num_sampled=400,
)
RATES = Rates(
    supernet_images=500.0,
    supernet_threads=1,
    subnet_images=800.0,
    subnet_threads=1,
    candidate_seconds=0.1,
    scored_images=1500.0,
    start_seconds=4.0,
    supernet_bytes=500 * 10**6,
    subnet_bytes=600 * 10**6,
)
SHAPE = Shape(
    setting=Setting("small", "2,2,2,2,2", 32), batch_size=32, threads=2, share=0.9, num_choices=320, num_bytes=4 * 10**6
)
ASKED = {"data_dir": DIGITS, "flops_max_m": 5.0, "hours": 0.5, "seed": 0}


def plan(asked=None, facts=FACTS, rates=RATES, shape=SHAPE, seconds=1700.0, **given):
    """A plan as the autopilot makes it."""
    asked = {**ASKED, **(asked or {}), **({"values": given} if given else {})}
    return make_plan(asked, facts, rates, 1e-4, shape, seconds)


def smallest_plan():
    """Two epochs of everything, eight candidates, followed to the letter."""
    values = {"supernet_epochs": 2, "evaluations": 8, "final_epochs": 2, "finalists": 2}
    return msgspec.structs.replace(plan(**values), is_fixed=True)
