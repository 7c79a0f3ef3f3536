"""stand-in until the evaluation branch lands"""

FACTORS = ("model", "data")
METRICS = {}


def described(name):
    return name
