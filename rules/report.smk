# In: the tables and figures of the analysis.
# Out: report.zip.


rule report:
    input:
        rules.analysis.input,
        rules.figures.input,
    output:
        f"{OUT}/report.zip",
    log:
        f"logs/{MODEL}/{DATASET}/report.log",
    benchmark:
        f"logs/benchmarks/{MODEL}/{DATASET}/report.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=1500,
        runtime=15,
    params:
        fingerprint=fingerprint("report"),
    message:
        "Writing the report"
    script:
        "../workflow_scripts/report.py"
