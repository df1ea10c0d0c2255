"""How schemathesis, which loads this by ``SCHEMATHESIS_HOOKS``, sends JSON by line: as the text that it is."""

import schemathesis

schemathesis.serializer.alias("application/x-ndjson", "text/plain")
