METRIC = "manhattan"
