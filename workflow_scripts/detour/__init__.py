"""Detect adversarial images by the path of their activations through a network.

One module per stage, in the order of the data: images, classifiers, attacks, activations, medoids,
distances, folds, detectors, metrics, figures, report. Later stages import earlier ones, never the other
way round. `store`, `logs`, `code` and `config` are what several stages or the workflow share.
"""
