CLASSIFIER = config["classifier"]
TRAINED = CLASSIFIER["weights"] == "train"
TRAINING = {
    "training": CLASSIFIER["training"],
    "dataset": REFERENCE,
    "device": config["device"],
    "seed": config["seed"],
}


rule classifier:
    input:
        [CLASSIFIER["weights"]] if is_file(CLASSIFIER["weights"]) else [],
    output:
        "<run>/classifier.pt",
    log:
        "<run>/logs/classifier.log",
    benchmark:
        "<run>/benchmarks/classifier.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 2
    resources:
        gpu=GPU,
    params:
        settings=settings(
            **without(CLASSIFIER, "layers", "training"),
            classes=class_count(config["dataset"]),
            **(TRAINING if TRAINED else {}),
        ),
        code=digest("classifier.py"),
    message:
        f"classifier: {'train' if TRAINED else 'load'} {CLASSIFIER['model']}"
    script:
        "../workflow_scripts/classifier.py"
