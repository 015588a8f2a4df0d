# A locked process. It imports without scikit-learn, so nothing is imported here.
