class Classifier
    pass
