"""The use cases behind the APIs, and the workers that move what the control plane holds."""
