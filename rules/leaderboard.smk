rule leaderboard:
    input:
        reads("leaderboard"),
    output:
        "<run>/leaderboard.json",
    log:
        "<run>/logs/leaderboard.log",
    benchmark:
        "<run>/benchmarks/leaderboard.tsv"
    conda:
        "../envs/torch.yaml"
    resources:
        mem_mb=growing(1500),
        runtime=growing(10),
    params:
        settings=told("leaderboard"),
        code=runs("leaderboard"),
        expected=expected,
    message:
        "leaderboard: what the run amounts to, to be compared with others"
    script:
        "../workflow_scripts/leaderboard.py"
