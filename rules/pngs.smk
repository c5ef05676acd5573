rule png:
    input:
        reads("png"),
    output:
        directory("<run>/pngs/{set}"),
    log:
        "<run>/logs/pngs/{set}.log",
    conda:
        "../envs/torch.yaml"
    resources:
        mem_mb=growing(1500),
        runtime=growing(60),
    params:
        code=runs("png"),
        expected=expected,
    message:
        "pngs: write the images of {wildcards.set} as PNG"
    script:
        "../workflow_scripts/png.py"
