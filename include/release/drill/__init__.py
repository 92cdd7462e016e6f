"""The drill: a model that is bad on purpose is released to a target of its own, to see that it comes down."""
