"""What gives an answer a score: graders, the models that some of them ask, and how models are asked."""
