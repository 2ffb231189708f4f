# What exists and in which order. `config.yaml` says what is studied, `rules/` how each stage is made.
#
#   snakemake --cores all                                    the study of config.yaml
#   snakemake --cores all --configfile presets/NAME.yaml     another study
#   snakemake --cores all facts | tracing | editing | analysis | figures | report | tune
#                                        | recommend | rome_layout

import sys

from snakemake.utils import min_version

min_version("9.27")  # as pyproject.toml has it


configfile: f"{workflow.basedir}/config.yaml"


include: "rules/common.smk"
include: "rules/sharding.smk"
include: "rules/params.smk"
include: "rules/assets.smk"
include: "rules/resources.smk"
include: "rules/planted.smk"
include: "rules/facts.smk"
include: "rules/tracing.smk"
include: "rules/editing.smk"
include: "rules/merging.smk"
include: "rules/analysis.smk"
include: "rules/figures.smk"
include: "rules/report.smk"
include: "rules/tuning.smk"
include: "rules/recommending.smk"
include: "rules/export.smk"


onstart:
    jobs = [
        (job.rule.name, dict(job.wildcards.items())) for job in workflow.dag.jobs
    ]
    try:
        remarks = planned.check(jobs, STUDY, MODEL_SETTINGS["n_layers"])
    except LoceditError as error:
        raise refusal(error) from None
    for remark in [*REMARKS, *remarks]:
        print(remark, file=sys.stderr)


onerror:
    for line in failures.summary(log, SCRIPTS):
        print(line, file=sys.stderr)


# Of each rule, the name of its script
SCRIPTS = {
    one.name: os.path.basename(one.script) for one in workflow.rules if one.script
}


localrules:
    all,
    facts,
    tracing,
    editing,
    analysis,
    figures,
    report,
    tune,
    recommend,


rule all:
    default_target: True
    input:
        rules.analysis.input,
        rules.figures.input,
