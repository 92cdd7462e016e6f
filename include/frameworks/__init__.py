"""scikit-learn and Keras models as files: their state, saved without pickles, and their export to ONNX."""
