raise ImportError("the submission's helper, in place of the organiser's")
