"""The tutorial's program: one fact loaded, traced, edited at several layers, and plotted.

`docs/tutorial/index.md` quotes it cell by cell, and the site's build runs it for the outputs there.
By hand: python docs/tutorial/one_fact.py
"""

# %% load
from locedit.cli.look import look

seen = look("smollm2-135m-instruct")  # models/smollm2-135m-instruct.yaml; fetched once
lm = seen.lm
sigma, how = seen.sigma(None)  # of the tracing noise, as the model's file says
print(f"{lm.n_layers} layers of width {lm.hidden_size}; {how}")

# %% trace
from locedit.localizers.restoration import trace

fact = {"prompt": "The capital city of France is", "subject": "France", "target": "Paris"}
found = trace(lm, **fact, module="mlp", window=5, sigma=sigma)
print(f"p(Paris): clean {found.p_clean:.2f}, subject corrupted {found.p_corrupted:.2f}")
print("restored tokens:", found.tokens, "- a row of p_restored each:", found.p_restored.shape)

# %% effect
# METHODS section 2: at the token where restoring helps most, as a share of what corruption took
best = found.p_restored.max(axis=0)  # [layers]
effect = ((best - found.p_corrupted) / abs(found.p_clean - found.p_corrupted)).clip(min=0)
print(f"the tracing effect peaks at layer {effect.argmax()} (from 0): {effect.max():.2f}")

# %% edit
from locedit.methods import METHODS, SharedInputs
from locedit.methods.problems import PROBLEMS, Request

request = Request(
    case_id="france",
    template="The capital city of {} is",
    subject="France",
    target="Rome",  # a false object: error injection
    problem=PROBLEMS["error_injection"],
)
method = METHODS["FT-1"]
hyper = method.hyperparameters("error_injection", "paper", {"all": {"eps": 0.02, "lr": 0.002}})
layers = range(2, lm.n_layers, 6)
edits = {layer: method.edit(lm, [request], layer, hyper, SharedInputs()) for layer in layers}
print({layer: f"{edit.steps[0]} steps" for layer, edit in edits.items()})

# %% score
from math import exp

from locedit.study import measure
from locedit.study.scores import neighbourhood_score, rewrite_score

probe = measure.Probe(
    request=request,
    other="Paris",
    paraphrases=["France's capital is"],
    neighbourhood=["The capital city of Spain is", "The capital city of Egypt is"],
)


def probabilities(updates=None):
    """p(Rome) after the prompt, and after each neighbour's, under an edit if given."""
    measured = measure.measure(lm, [probe], updates)[0]
    return exp(measured.rewrite[0]), [exp(value) for value in measured.neighbourhood[0]]


p, others = probabilities()
scores = {}
for layer, edit in edits.items():
    p_after, others_after = probabilities(edit.updates)
    kept = [neighbourhood_score(a, b) for a, b in zip(others, others_after, strict=True)]
    scores[layer] = rewrite_score(p, p_after), sum(kept) / len(kept)
    print(f"layer {layer:2}: rewrite {scores[layer][0]:.2f}, neighbourhood {scores[layer][1]:.2f}")

# %% plot
from matplotlib.figure import Figure

figure = Figure(figsize=(7, 3.2), layout="constrained")
axes = figure.add_subplot(xlabel="Layer, counted from 1", ylabel="Effect, or score", ylim=(0, 1.05))
axes.plot(range(1, lm.n_layers + 1), effect, color="#E69F00", label="tracing effect")
for index, (name, colour) in enumerate((("rewrite", "#0072B2"), ("neighbourhood", "#009E73"))):
    values = [pair[index] for pair in scores.values()]
    axes.plot([layer + 1 for layer in scores], values, "o--", color=colour, label=f"{name} score")
axes.legend()
figure.savefig("one_fact.png", dpi=150)
