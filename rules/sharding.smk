# Stages whose facts may be dealt out to several jobs: `--set-scatter tracing=4 editing=8`, or
# `set-scatter` in a profile. No result depends on them.


scattergather:
    tracing=1,  # of each localizer, for each module and window
    editing=1,  # of essence texts, baseline, and edits, for each cell of the grid


for _stage, _count in workflow.resource_settings.overwrite_scatter.items():
    if _stage not in ("tracing", "editing") or _count < 1:
        raise refusal(
            f"--set-scatter {_stage}={_count}: give `tracing`, `editing` or both, a whole number "
            "from 1 each"
        )


def shards(stage):
    """How many jobs a stage's facts are dealt out to."""
    return len(getattr(gather, stage)("{scatteritem}"))


def sharded(stage):
    """Whether there are several of them."""
    return shards(stage) > 1


def part(path, stage):
    """Where one job puts its part of a table, and its log: all of it, or one shard's."""
    if not sharded(stage):
        return path
    stem, _, suffix = path.rpartition(".")
    return f"{stem}.shard-{{scatteritem}}.{suffix}"


def shard_output(path, stage):
    """The same as an output, which is not kept once the whole table is there."""
    return temp(part(path, stage)) if sharded(stage) else path


def parts(path, stage):
    """Of a sharded table: the parts of all jobs."""
    return getattr(gather, stage)(part(path, stage), allow_missing=True)


def part_message(text, stage):
    """What a job says that it does."""
    return text + (", shard {wildcards.scatteritem}" if sharded(stage) else "")
