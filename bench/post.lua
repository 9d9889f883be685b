-- 2 KiB of a body, as a batch of metric lines has.
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/octet-stream"
wrk.body = string.rep("metric.name 42.0 source=host key=\"v\"\n", 56):sub(1, 2048)
