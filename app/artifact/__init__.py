"""What is inside a ``model.onnx``: its card, its golden case and the digest that seals both.

An artifact is one self-contained ONNX file in ``<model_repository>/<model_name>/<model_version>/``.
Everything the service must know is JSON in the file's own metadata, so that a rename is the whole
deployment. Training and serving share this package; it needs neither torch nor onnx.
"""
