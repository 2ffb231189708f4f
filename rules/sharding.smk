# Stages whose facts may be dealt out to several jobs (`sharding` of the configuration).


def sharded(stage):
    """Whether a stage's facts are dealt out to several jobs."""
    return config["sharding"][stage] > 1


def part(path, stage):
    """Where one job puts its part of a table, and its log: all of it, or one shard's."""
    if not sharded(stage):
        return path
    stem, _, suffix = path.rpartition(".")
    return f"{stem}.shard-{{shard}}-of-{{shards}}.{suffix}"


def shard_output(path, stage):
    """The same as an output, which is not kept once the whole table is there."""
    return temp(part(path, stage)) if sharded(stage) else path


def parts(path, stage):
    """Of a sharded table: the parts of all jobs."""
    count = config["sharding"][stage]
    pattern = part(path, stage).replace("{shards}", str(count))
    return [pattern.replace("{shard}", str(i)) for i in range(1, count + 1)]


def part_message(text, stage):
    """What a job says that it does."""
    more = ", shard {wildcards.shard} of {wildcards.shards}"
    return text + (more if sharded(stage) else "")
