CLASSIFIER = config["classifier"]
# What each kind of weights needs to know besides.
MADE_HERE = {
    "untrained": {"seed": config["seed"]},
    "train": {
        "training": CLASSIFIER["training"],
        "dataset": REFERENCE,
        "device": config["device"],
        "seed": config["seed"],
    },
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
            **MADE_HERE.get(CLASSIFIER["weights"], {}),
        ),
        code=digest("classifier.py"),
    message:
        f"classifier: {CLASSIFIER['model']}, weights {CLASSIFIER['weights']}"
    script:
        "../workflow_scripts/classifier.py"
