"""What runs on Ray Serve: model applications with the OpenAI API over an inference engine."""
