"""Data contracts: Great Expectations suites in code, one module an artefact, and the gate that runs them."""
