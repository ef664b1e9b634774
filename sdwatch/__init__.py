"""sdwatch: a folder of Stable Diffusion jobs, run against a WebUI that is kept alive."""

__version__ = "0.1.0"
