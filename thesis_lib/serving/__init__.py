"""Who uses it: the trained policy as a service, without torch and without CityLearn."""

import os

# ONNX Runtime's Linux build would send telemetry; set before it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
