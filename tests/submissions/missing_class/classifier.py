class Klassifier:
    pass
