"""The tutorial's program: one fact loaded, traced, edited at several layers, and plotted.

docs/tutorial/index.md quotes it cell by cell, with what it prints; a test compares.
By hand: python docs/tutorial/one_fact.py
"""

# %% load
import locedit

lm = locedit.load("smollm2-135m-instruct")  # models/smollm2-135m-instruct.yaml; fetched once
print(f"{lm.n_layers} layers of width {lm.hidden_size}")

# %% trace
fact = {"prompt": "The capital city of France is", "subject": "France"}
found = locedit.trace(lm, **fact, target="Paris")  # MLP outputs, windows of five layers
print(f"p(Paris): clean {found.p_clean:.2f}, subject corrupted {found.p_corrupted:.2f}")
print("restored tokens:", found.tokens, "- a row of p_restored each:", found.p_restored.shape)

# %% effect
effect = found.fraction  # [layers]
print(f"the tracing effect peaks at layer {effect.argmax()} (from 0): {effect.max():.2f}")

# %% edit
how = {"target": "Rome", "method": "FT-1", "tuned": "saturating"}  # as far as the edit can go
layers = range(2, lm.n_layers, 6)
edits = {layer: locedit.edit(lm, **fact, **how, layer=layer) for layer in layers}
print({layer: f"{edit.steps} steps" for layer, edit in edits.items()})

# %% score
others = ["The capital city of Spain is", "The capital city of Egypt is"]
scores = {layer: locedit.measure(lm, edit, neighbourhood=others) for layer, edit in edits.items()}
for layer, score in scores.items():
    print(f"layer {layer:2}: rewrite {score.rewrite:.2f}, neighbourhood {score.neighbourhood:.2f}")

# %% plot
from matplotlib.figure import Figure

figure = Figure(figsize=(7, 3.2), layout="constrained")
axes = figure.add_subplot(xlabel="Layer, counted from 1", ylabel="Effect, or score", ylim=(0, 1.05))
axes.plot(range(1, lm.n_layers + 1), effect, color="#E69F00", label="tracing effect")
for name, colour in (("rewrite", "#0072B2"), ("neighbourhood", "#009E73")):
    values = [getattr(score, name) for score in scores.values()]
    axes.plot([layer + 1 for layer in scores], values, "o--", color=colour, label=f"{name} score")
axes.legend()
figure.savefig("one_fact.png", dpi=150)
