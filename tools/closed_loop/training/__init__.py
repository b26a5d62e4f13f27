"""Imitation: the expert's episodes, scattered scenes, and the steps that learn from them."""
