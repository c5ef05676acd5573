"""Methods: where the implementation of each is, said without importing any of them.

The workflow asks here which module a job will load, and importing torch for that would cost it seconds.
"""

# A new detector is one class and one line here, and its options one entry of the schema.
DETECTORS = {
    "lstm": "detour.detectors.sequences:LSTM",
    "mlp": "detour.detectors.sequences:MLP",
    "logistic": "detour.detectors.sequences:Logistic",
    "knn": "detour.detectors.neighbours:KNN",
    "knn_distance": "detour.detectors.layers:KNNDistance",
    "mahalanobis": "detour.detectors.layers:Mahalanobis",
    "lid": "detour.detectors.layers:LID",
    "fisher": "detour.detectors.fisher:Fisher",
    "fisher_mlp": "detour.detectors.fisher:FisherMLP",
    "max_softmax": "detour.detectors.confidence:MaxSoftmax",
    "energy": "detour.detectors.confidence:Energy",
}


def module(implementation: str) -> str:
    """The module of `module:Class`."""
    return implementation.partition(":")[0]
