CLASSIFIER = config["classifier"]
# What each kind of weights needs to know besides.
MADE_HERE = {
    "untrained": {"seed": config["seed"]},
    "train": {
        "training": CLASSIFIER["training"],
        "dataset": REFERENCE,
        "device": config["device"],
        "threads": config["threads"],
        "seed": config["seed"],
    },
}


rule classifier:
    input:
        # Its digest is one of the params, so that touching it or copying it means nothing. Snakemake would take
        # a name in brackets for a wildcard or a variable, even from a function.
        (
            [local(ancient(CLASSIFIER["weights"]))]
            if "weights" in CONTENTS and not set("{}<>") & set(CLASSIFIER["weights"])
            else []
        ),
    output:
        "<run>/classifier.pt",
    log:
        "<run>/logs/classifier.log",
    benchmark:
        "<run>/benchmarks/classifier.tsv"
    conda:
        "../envs/torch.yaml"
    threads: config["threads"]
    resources:
        gpu=GPU,
        mem_mb=growing(3000),
        runtime=growing(60),
    params:
        settings=settings(
            **without(CLASSIFIER, "layers", "training"),
            classes=class_count(config["dataset"]),
            **MADE_HERE.get(CLASSIFIER["weights"], {}),
        ),
        content=CONTENTS.get("weights", ""),
        code=digest("classifier.py"),
    message:
        f"classifier: {CLASSIFIER['model']}, weights {CLASSIFIER['weights']}".replace(
            "{", "{{"
        ).replace("}", "}}")
    script:
        "../workflow_scripts/classifier.py"
