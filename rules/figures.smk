# Every figure is drawn by one rule of this form; what it reads and is told stands here.
SHOWN = {"attack": config["figures"]["attack"]}
DRAWN = {"detectors": config["figures"]["detectors"] or list(DETECTORS)[:6]}
KNOWN = {"scores": TABLES["scores"], "metrics": TABLES["metrics"]}
FIGURES = {
    "intervals": ({"summary": TABLES["summary"]}, {}),
    "roc": (KNOWN, DRAWN),
    "roc-attacks": (KNOWN, DRAWN),
    "transfer": ({"metrics": TABLES["metrics"]}, DRAWN),
    "path": (
        {"distances": DISTANCES[PAPER_S].values(), "outcomes": TABLES["outcomes"]},
        SHOWN,
    ),
    "tsne": (
        {
            "images": IMAGES["original"],
            "activations": ACTIVATIONS.values(),
            "references": REFERENCES,
            "outcomes": TABLES["outcomes"],
        },
        SHOWN | {"size": config["figures"]["tsne_images"], "seed": config["seed"]},
    ),
    "samples": (
        {
            "images": IMAGES.values(),
            "activations": ACTIVATIONS.values(),
            "outcomes": TABLES["outcomes"],
        },
        SHOWN | {"count": config["figures"]["samples"]},
    ),
}
# What only a protocol has.
for protocol, drawn in (("known", ("roc", "roc-attacks")), ("transfer", ("transfer",))):
    if protocol not in config["protocols"]:
        for figure in drawn:
            del FIGURES[figure]
# What is trained in passes over the images.
EPOCHS = [name for name, entry in DETECTORS.items() if "epochs" in entry]
if EPOCHS:
    FIGURES["histories"] = ({"histories": TABLES["histories"]}, {"detectors": EPOCHS})
if ADAPTIVE["methods"]:
    FIGURES["adaptive"] = ({"table": TABLES["adaptive"], "adapted": ADAPTED}, {})

for figure, (read, told) in FIGURES.items():

    rule:
        name:
            f"figure_{figure.replace('-', '_')}"
        input:
            **read,
        output:
            svg=report(
                f"<run>/figures/{figure}.svg",
                caption=f"../report/{figure}.rst",
                category="Figures",
            ),
            pdf=f"<run>/figures/{figure}.pdf",
        log:
            f"<run>/logs/figures/{figure}.log",
        benchmark:
            f"<run>/benchmarks/figures/{figure}.tsv"
        conda:
            "../envs/torch.yaml"
        resources:
            mem_mb=growing(2000),
            runtime=growing(10),
        params:
            settings=settings(name=figure, **told),
            code=digest("figure.py"),
        message:
            f"figures: draw {figure}"
        script:
            "../workflow_scripts/figure.py"
