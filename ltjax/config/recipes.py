"""The methods and the stages that a config names, as values of the keys left at "auto"."""

# What every method leaves as it is, unless it says otherwise.
PLAIN = {
    "model.head": "linear",
    "whitening.method": "none",
    "plan.name": "instance",
    "loss.name": "cross_entropy",
    "loss.weighting": "none",
    "loss.modulation": "none",
    "loss.smoothing": "none",
    "train.mixing": "none",
}

_WHITENED = {"whitening.method": "zca"}
_WHITENED_LA = {**_WHITENED, "loss.name": "logit_adjustment"}

_CHANGES: dict[str, dict[str, str]] = {
    "ce": {},
    "logit_adjustment": {"loss.name": "logit_adjustment"},
    "cw": _WHITENED,
    "bn_la": {"whitening.method": "batch_norm", "loss.name": "logit_adjustment"},
    "cw_la": _WHITENED_LA,
    "cw_la_b3rs": {**_WHITENED_LA, "plan.name": "b3rs"},
    "cw_la_b3rs_bet": {**_WHITENED_LA, "plan.name": "b3rs_bet"},
    "weighted_ce": {"loss.weighting": "inverse"},
    "class_balanced": {"loss.weighting": "class_balanced"},
    "focal": {"loss.modulation": "focal"},
    "class_balanced_focal": {"loss.weighting": "class_balanced", "loss.modulation": "focal"},
    "class_balanced_sigmoid_focal": {
        "loss.weighting": "class_balanced",
        "loss.modulation": "sigmoid_focal",
    },
    "ce_drw": {"loss.weighting": "drw"},
    "ldam": {"loss.name": "ldam", "model.head": "cosine"},
    "ldam_drw": {"loss.name": "ldam", "model.head": "cosine", "loss.weighting": "drw"},
    "balanced_softmax": {"loss.name": "balanced_softmax"},
    "vs": {"loss.name": "vs"},
    "lade": {"loss.name": "lade"},
    "lade_published": {"loss.name": "lade_published"},
    "equalization": {"loss.name": "equalization"},
    "seesaw": {"loss.name": "seesaw"},
    "label_smoothing": {"loss.smoothing": "uniform"},
    "label_aware_smoothing": {"loss.smoothing": "label_aware"},
    "label_aware_smoothing_published": {"loss.smoothing": "label_aware_published"},
    "mixup": {"train.mixing": "mixup"},
    "remix": {"train.mixing": "remix"},
}

# Sections a method sets; a key left at "auto" takes the method's value.
METHODS: dict[str, dict[str, str]] = {name: {**PLAIN, **c} for name, c in _CHANGES.items()}

# Stage two trains the head alone, on a network that the method's stage one has trained. Its
# plan, loss and head are the stage's, its whitening is the method's.
_HEAD_ONLY = {key: value for key, value in PLAIN.items() if key != "whitening.method"}
STAGES: dict[str, dict[str, str]] = {
    "one": {},
    "crt": {
        **{k: v for k, v in _HEAD_ONLY.items() if k != "model.head"},
        "plan.name": "class_balanced",
    },
    "lws": {**_HEAD_ONLY, "plan.name": "class_balanced", "model.head": "lws"},
    "marc": {**_HEAD_ONLY, "loss.weighting": "inverse", "model.head": "marc"},
    "max_norm": {
        **_HEAD_ONLY,
        "loss.weighting": "class_balanced",
        "model.head": "max_norm",
    },
    "tau_norm": {**_HEAD_ONLY, "model.head": "tau_norm"},
    "ncm": {**_HEAD_ONLY, "model.head": "cosine"},
    "posthoc_la": _HEAD_ONLY,
}
UNTRAINED_STAGES = ("tau_norm", "ncm", "posthoc_la")
