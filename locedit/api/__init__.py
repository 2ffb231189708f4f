"""What `import locedit` gives: a model by its name, and one fact traced, edited and measured."""
