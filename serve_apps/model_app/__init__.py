"""One model as one Ray Serve application, whose replicas hold the engine and answer HTTP themselves."""
