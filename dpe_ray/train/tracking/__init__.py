"""Where the numbers of a training go: files always, TensorBoard, W&B and MLflow where they are asked for."""
