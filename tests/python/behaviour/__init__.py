"""How a Kubernetes API server behaves, as tables: what is asked in turn, and what is answered.

`steps.py` has the language of the tables; the other modules have a list `CASES` each. `test_kubernetes_api.py` runs them against
the API of the session's backend: the embedded one, or with `--cluster kubernetes` a real kube-apiserver, which is what the
tables are right about. Which objects are valid is not here: tests/kubernetes/objects.yaml has those.
"""
