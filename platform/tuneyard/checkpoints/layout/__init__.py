"""What the files of a GPT-OSS checkpoint must look like, whatever their manifest says."""
