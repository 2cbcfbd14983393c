raise RuntimeError("the submission's own")
