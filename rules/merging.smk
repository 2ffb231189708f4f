# In: the parts of a table whose stage is dealt out to several jobs (sharding.smk), the study's
# facts.
# Out: the whole table, as one job would have made it.
# Steps: merge, for each table of each sharded stage.

SHARDED = {
    "trace": ("tracing", "tracing/{kind}/window-{window}"),
    "localize": ("tracing", "localizing/{localizer}/{module}/window-{window}"),
    "essence": ("editing", "essence"),
    "baseline": ("editing", "baseline/{problem}"),
    "edit": ("editing", "editing/{method}/{problem}/layer-{layer}"),
}


for made_by, (stage, table) in SHARDED.items():
    if sharded(stage):

        rule:
            name:
                f"merge_{made_by}"
            input:
                study=f"{OUT}/study.parquet",
                shards=parts(f"{OUT}/{table}.parquet", stage),
            output:
                f"{OUT}/{table}.parquet",
            log:
                log_of(f"{OUT}/{table}.parquet"),
            benchmark:
                benchmark_of(f"{OUT}/{table}.parquet")
            conda:
                ENVIRONMENT
            threads: 1
            resources:
                mem_mb=memory(330),
                runtime=minutes(3, PER_FACT),
            params:
                # those of the parts, so that another number of them reruns nothing
                **dict(getattr(rules, made_by).params.items()),
            message:
                "Merging {output}"
            script:
                "../workflow_scripts/merge.py"
