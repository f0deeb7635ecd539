/// What the interface offers, for programs that read such documents.
enum OpenAPI {
    // swift-format-ignore
    /// OpenAPI 3.1.
    static let document = #"""
{
 "openapi": "3.1.0",
 "info": {"title": "Tally", "version": "1.0.0", "description": "Exact, durable counters. Values are 64-bit integers: clients whose numbers are floating point lose digits beyond 2^53."},
 "security": [{}, {"basic": []}],
 "paths": {
  "/v1/counters/{key}": {
   "parameters": [{"name": "key", "in": "path", "required": true, "description": "The key, UTF-8, percent-encoded", "schema": {"type": "string", "minLength": 1}}],
   "get": {
    "operationId": "getCounter",
    "summary": "Read a counter",
    "tags": ["counters"],
    "responses": {
     "200": {"description": "The counter", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Counter"}}}},
     "404": {"description": "No such counter", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "400": {"description": "What was sent is not understood", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "401": {"description": "Not logged in", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "403": {"description": "Not permitted", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "429": {"description": "Too many passwords are being checked", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "503": {"description": "Not now", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}}
    }
   },
   "put": {
    "operationId": "setCounter",
    "summary": "Set a counter",
    "tags": ["counters"],
    "parameters": [{"name": "Idempotency-Key", "in": "header", "required": false, "description": "A UUID of version 7 or a ULID: however often the request is sent with it, it is counted once, and replied to as it was first", "schema": {"type": "string", "pattern": "^([0-9a-fA-F]{8}-[0-9a-fA-F]{4}-7[0-9a-fA-F]{3}-[89abAB][0-9a-fA-F]{3}-[0-9a-fA-F]{12}|[0-7][0-9A-HJKMNP-TV-Za-hjkmnp-tv-z]{25})$"}}],
    "requestBody": {"required": true, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Value"}}}},
    "responses": {
     "200": {"description": "The counter", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Counter"}}}},
     "409": {"description": "Out of range, or it cannot be told whether this was counted", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "413": {"description": "The body is too large", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "422": {"description": "The Idempotency-Key is another request's", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "507": {"description": "No room", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "400": {"description": "What was sent is not understood", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "401": {"description": "Not logged in", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "403": {"description": "Not permitted", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "429": {"description": "Too many passwords are being checked", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "503": {"description": "Not now", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}}
    }
   },
   "delete": {
    "operationId": "deleteCounter",
    "summary": "Delete a counter",
    "tags": ["counters"],
    "parameters": [{"name": "Idempotency-Key", "in": "header", "required": false, "description": "A UUID of version 7 or a ULID: however often the request is sent with it, it is counted once, and replied to as it was first", "schema": {"type": "string", "pattern": "^([0-9a-fA-F]{8}-[0-9a-fA-F]{4}-7[0-9a-fA-F]{3}-[89abAB][0-9a-fA-F]{3}-[0-9a-fA-F]{12}|[0-7][0-9A-HJKMNP-TV-Za-hjkmnp-tv-z]{25})$"}}],
    "responses": {
     "204": {"description": "It is gone"},
     "404": {"description": "No such counter", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "409": {"description": "Out of range, or it cannot be told whether this was counted", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "413": {"description": "The body is too large", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "422": {"description": "The Idempotency-Key is another request's", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "507": {"description": "No room", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "400": {"description": "What was sent is not understood", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "401": {"description": "Not logged in", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "403": {"description": "Not permitted", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "429": {"description": "Too many passwords are being checked", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "503": {"description": "Not now", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}}
    }
   }
  },
  "/v1/counters/{key}/increment": {
   "parameters": [{"name": "key", "in": "path", "required": true, "description": "The key, UTF-8, percent-encoded", "schema": {"type": "string", "minLength": 1}}],
   "post": {
    "operationId": "incrementCounter",
    "summary": "Add to a counter",
    "tags": ["counters"],
    "parameters": [{"name": "Idempotency-Key", "in": "header", "required": false, "description": "A UUID of version 7 or a ULID: however often the request is sent with it, it is counted once, and replied to as it was first", "schema": {"type": "string", "pattern": "^([0-9a-fA-F]{8}-[0-9a-fA-F]{4}-7[0-9a-fA-F]{3}-[89abAB][0-9a-fA-F]{3}-[0-9a-fA-F]{12}|[0-7][0-9A-HJKMNP-TV-Za-hjkmnp-tv-z]{25})$"}}],
    "requestBody": {"required": true, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Increment"}}}},
    "responses": {
     "200": {"description": "The counter as it is now", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Counter"}}}},
     "409": {"description": "Out of range, or it cannot be told whether this was counted", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "413": {"description": "The body is too large", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "422": {"description": "The Idempotency-Key is another request's", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "507": {"description": "No room", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "400": {"description": "What was sent is not understood", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "401": {"description": "Not logged in", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "403": {"description": "Not permitted", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "429": {"description": "Too many passwords are being checked", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "503": {"description": "Not now", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}}
    }
   }
  },
  "/v1/batch/get": {
   "post": {
    "operationId": "getCounters",
    "summary": "Read many counters, all at one moment",
    "tags": ["counters"],
    "requestBody": {"required": true, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Keys"}}}},
    "responses": {
     "200": {"description": "The counters in the order of their keys; null for what is not there", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Counters"}}}},
     "413": {"description": "The body is too large", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "400": {"description": "What was sent is not understood", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "401": {"description": "Not logged in", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "403": {"description": "Not permitted", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "429": {"description": "Too many passwords are being checked", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "503": {"description": "Not now", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}}
    }
   }
  },
  "/v1/batch/increment": {
   "post": {
    "operationId": "incrementCounters",
    "summary": "Add to many counters as one transaction",
    "tags": ["counters"],
    "parameters": [{"name": "Idempotency-Key", "in": "header", "required": false, "description": "A UUID of version 7 or a ULID: however often the request is sent with it, it is counted once, and replied to as it was first", "schema": {"type": "string", "pattern": "^([0-9a-fA-F]{8}-[0-9a-fA-F]{4}-7[0-9a-fA-F]{3}-[89abAB][0-9a-fA-F]{3}-[0-9a-fA-F]{12}|[0-7][0-9A-HJKMNP-TV-Za-hjkmnp-tv-z]{25})$"}}],
    "requestBody": {"required": true, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Increments"}}}},
    "responses": {
     "200": {"description": "The counters as they are now", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Counters"}}}},
     "409": {"description": "Out of range, or it cannot be told whether this was counted", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "413": {"description": "The body is too large", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "422": {"description": "The Idempotency-Key is another request's", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "507": {"description": "No room", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "400": {"description": "What was sent is not understood", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "401": {"description": "Not logged in", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "403": {"description": "Not permitted", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "429": {"description": "Too many passwords are being checked", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "503": {"description": "Not now", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}}
    }
   }
  },
  "/v1/families": {
   "get": {
    "operationId": "listFamilies",
    "summary": "Names of all families",
    "tags": ["families"],
    "responses": {
     "200": {"description": "The names", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Families"}}}},
     "400": {"description": "What was sent is not understood", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "401": {"description": "Not logged in", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "403": {"description": "Not permitted", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "429": {"description": "Too many passwords are being checked", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "503": {"description": "Not now", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}}
    }
   }
  },
  "/v1/families/{family}": {
   "parameters": [{"name": "family", "in": "path", "required": true, "schema": {"type": "string", "minLength": 1}}],
   "get": {
    "operationId": "describeFamily",
    "summary": "How a family was declared",
    "tags": ["families"],
    "responses": {
     "200": {"description": "The family", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Family"}}}},
     "404": {"description": "No such family", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "400": {"description": "What was sent is not understood", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "401": {"description": "Not logged in", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "403": {"description": "Not permitted", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "429": {"description": "Too many passwords are being checked", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "503": {"description": "Not now", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}}
    }
   }
  },
  "/v1/families/{family}/records/{key}": {
   "parameters": [{"name": "family", "in": "path", "required": true, "schema": {"type": "string", "minLength": 1}}, {"name": "key", "in": "path", "required": true, "description": "The key, UTF-8, percent-encoded", "schema": {"type": "string", "minLength": 1}}],
   "get": {
    "operationId": "getRecord",
    "summary": "Read a record",
    "tags": ["families"],
    "responses": {
     "200": {"description": "The record; columns at their defaults are left out if all are", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Record"}}}},
     "404": {"description": "No such family", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "400": {"description": "What was sent is not understood", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "401": {"description": "Not logged in", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "403": {"description": "Not permitted", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "429": {"description": "Too many passwords are being checked", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "503": {"description": "Not now", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}}
    }
   },
   "put": {
    "operationId": "setRecord",
    "summary": "Set columns of a record",
    "tags": ["families"],
    "parameters": [{"name": "Idempotency-Key", "in": "header", "required": false, "description": "A UUID of version 7 or a ULID: however often the request is sent with it, it is counted once, and replied to as it was first", "schema": {"type": "string", "pattern": "^([0-9a-fA-F]{8}-[0-9a-fA-F]{4}-7[0-9a-fA-F]{3}-[89abAB][0-9a-fA-F]{3}-[0-9a-fA-F]{12}|[0-7][0-9A-HJKMNP-TV-Za-hjkmnp-tv-z]{25})$"}}],
    "requestBody": {"required": true, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Columns"}}}},
    "responses": {
     "200": {"description": "The record as it is now", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Record"}}}},
     "404": {"description": "No such family", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "409": {"description": "Out of range, or it cannot be told whether this was counted", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "413": {"description": "The body is too large", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "422": {"description": "The Idempotency-Key is another request's", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "507": {"description": "No room", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "400": {"description": "What was sent is not understood", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "401": {"description": "Not logged in", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "403": {"description": "Not permitted", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "429": {"description": "Too many passwords are being checked", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "503": {"description": "Not now", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}}
    }
   },
   "delete": {
    "operationId": "deleteRecord",
    "summary": "Delete a record",
    "tags": ["families"],
    "parameters": [{"name": "Idempotency-Key", "in": "header", "required": false, "description": "A UUID of version 7 or a ULID: however often the request is sent with it, it is counted once, and replied to as it was first", "schema": {"type": "string", "pattern": "^([0-9a-fA-F]{8}-[0-9a-fA-F]{4}-7[0-9a-fA-F]{3}-[89abAB][0-9a-fA-F]{3}-[0-9a-fA-F]{12}|[0-7][0-9A-HJKMNP-TV-Za-hjkmnp-tv-z]{25})$"}}],
    "responses": {
     "204": {"description": "It is gone"},
     "404": {"description": "No such family or record", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "409": {"description": "Out of range, or it cannot be told whether this was counted", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "413": {"description": "The body is too large", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "422": {"description": "The Idempotency-Key is another request's", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "507": {"description": "No room", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "400": {"description": "What was sent is not understood", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "401": {"description": "Not logged in", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "403": {"description": "Not permitted", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "429": {"description": "Too many passwords are being checked", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "503": {"description": "Not now", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}}
    }
   }
  },
  "/v1/families/{family}/records/{key}/increment": {
   "parameters": [{"name": "family", "in": "path", "required": true, "schema": {"type": "string", "minLength": 1}}, {"name": "key", "in": "path", "required": true, "description": "The key, UTF-8, percent-encoded", "schema": {"type": "string", "minLength": 1}}],
   "post": {
    "operationId": "incrementColumn",
    "summary": "Add to a column of a record",
    "tags": ["families"],
    "parameters": [{"name": "Idempotency-Key", "in": "header", "required": false, "description": "A UUID of version 7 or a ULID: however often the request is sent with it, it is counted once, and replied to as it was first", "schema": {"type": "string", "pattern": "^([0-9a-fA-F]{8}-[0-9a-fA-F]{4}-7[0-9a-fA-F]{3}-[89abAB][0-9a-fA-F]{3}-[0-9a-fA-F]{12}|[0-7][0-9A-HJKMNP-TV-Za-hjkmnp-tv-z]{25})$"}}],
    "requestBody": {"required": true, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ColumnIncrement"}}}},
    "responses": {
     "200": {"description": "The column as it is now", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Column"}}}},
     "404": {"description": "No such family", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "409": {"description": "Out of range, or it cannot be told whether this was counted", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "413": {"description": "The body is too large", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "422": {"description": "The Idempotency-Key is another request's", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "507": {"description": "No room", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "400": {"description": "What was sent is not understood", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "401": {"description": "Not logged in", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "403": {"description": "Not permitted", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "429": {"description": "Too many passwords are being checked", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "503": {"description": "Not now", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}}
    }
   }
  },
  "/v1/families/{family}/batch/get": {
   "parameters": [{"name": "family", "in": "path", "required": true, "schema": {"type": "string", "minLength": 1}}],
   "post": {
    "operationId": "getRecords",
    "summary": "Read many records",
    "tags": ["families"],
    "requestBody": {"required": true, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Keys"}}}},
    "responses": {
     "200": {"description": "The records in the order of their keys", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Records"}}}},
     "404": {"description": "No such family", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "413": {"description": "The body is too large", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "400": {"description": "What was sent is not understood", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "401": {"description": "Not logged in", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "403": {"description": "Not permitted", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "429": {"description": "Too many passwords are being checked", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "503": {"description": "Not now", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}}
    }
   }
  },
  "/v1/admin/status": {
   "get": {
    "operationId": "getStatus",
    "summary": "What INFO tells, by section",
    "tags": ["administration"],
    "responses": {
     "200": {"description": "Sections of fields", "content": {"application/json": {"schema": {"type": "object", "additionalProperties": {"type": "object", "additionalProperties": {"oneOf": [{"type": "integer"}, {"type": "string"}]}}}}}},
     "400": {"description": "What was sent is not understood", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "401": {"description": "Not logged in", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "403": {"description": "Not permitted", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "429": {"description": "Too many passwords are being checked", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "503": {"description": "Not now", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}}
    }
   }
  },
  "/v1/admin/partitions": {
   "get": {
    "operationId": "getPartitions",
    "summary": "What each partition has",
    "tags": ["administration"],
    "responses": {
     "200": {"description": "All partitions", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Partitions"}}}},
     "400": {"description": "What was sent is not understood", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "401": {"description": "Not logged in", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "403": {"description": "Not permitted", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "429": {"description": "Too many passwords are being checked", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "503": {"description": "Not now", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}}
    }
   }
  },
  "/v1/admin/checkpoint": {
   "post": {
    "operationId": "makeCheckpoint",
    "summary": "Make a checkpoint in the background",
    "tags": ["administration"],
    "responses": {
     "202": {"description": "Begun, or to follow the one that is being made", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Status"}}}},
     "400": {"description": "What was sent is not understood", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "401": {"description": "Not logged in", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "403": {"description": "Not permitted", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "429": {"description": "Too many passwords are being checked", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "503": {"description": "Not now", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}}
    }
   }
  },
  "/v1/admin/backup": {
   "get": {
    "operationId": "getBackup",
    "summary": "How the last backup went",
    "tags": ["administration"],
    "responses": {
     "200": {"description": "none, working, done or failed with a reason", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Status"}}}},
     "400": {"description": "What was sent is not understood", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "401": {"description": "Not logged in", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "403": {"description": "Not permitted", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "429": {"description": "Too many passwords are being checked", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "503": {"description": "Not now", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}}
    }
   },
   "post": {
    "operationId": "makeBackup",
    "summary": "Make a backup in a directory of the server's machine",
    "tags": ["administration"],
    "requestBody": {"required": true, "content": {"application/json": {"schema": {"type": "object", "required": ["path"], "properties": {"path": {"type": "string", "pattern": "^/", "description": "An absolute path"}}}}}},
    "responses": {
     "202": {"description": "Begun", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Status"}}}},
     "409": {"description": "Another one is being made", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "413": {"description": "The body is too large", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "400": {"description": "What was sent is not understood", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "401": {"description": "Not logged in", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "403": {"description": "Not permitted", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "429": {"description": "Too many passwords are being checked", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "503": {"description": "Not now", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}}
    }
   }
  },
  "/metrics": {
   "get": {
    "operationId": "getMetrics",
    "summary": "Metrics in Prometheus's text format",
    "tags": ["operation"],
    "responses": {
     "200": {"description": "The metrics", "content": {"text/plain": {"schema": {"type": "string"}}}},
     "400": {"description": "What was sent is not understood", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "401": {"description": "Not logged in", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "403": {"description": "Not permitted", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "429": {"description": "Too many passwords are being checked", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
     "503": {"description": "Not now", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}}
    }
   }
  },
  "/health/live": {
   "get": {
    "operationId": "isAlive",
    "summary": "Whether the process answers",
    "tags": ["operation"],
    "security": [],
    "responses": {
     "200": {"description": "It does"}
    }
   }
  },
  "/health/ready": {
   "get": {
    "operationId": "isReady",
    "summary": "Whether clients are served and writes accepted",
    "tags": ["operation"],
    "security": [],
    "responses": {
     "200": {"description": "They are"},
     "503": {"description": "They are not", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}}
    }
   }
  },
  "/openapi.json": {
   "get": {
    "operationId": "getDocument",
    "summary": "This document",
    "tags": ["operation"],
    "security": [],
    "responses": {
     "200": {"description": "It", "content": {"application/json": {"schema": {"type": "object"}}}}
    }
   }
  }
 },
 "components": {
  "securitySchemes": {"basic": {"type": "http", "scheme": "basic"}},
  "schemas": {
   "Counter": {"type": "object", "required": ["key", "value"], "properties": {"key": {"type": "string"}, "value": {"type": "integer", "format": "int64", "minimum": -9223372036854775808, "maximum": 9223372036854775807}}},
   "OptionalCounter": {"type": "object", "required": ["key", "value"], "properties": {"key": {"type": "string"}, "value": {"type": ["integer", "null"], "format": "int64", "minimum": -9223372036854775808, "maximum": 9223372036854775807}}},
   "Counters": {"type": "object", "required": ["counters"], "properties": {"counters": {"type": "array", "items": {"$ref": "#/components/schemas/OptionalCounter"}}}},
   "Value": {"type": "object", "required": ["value"], "properties": {"value": {"type": "integer", "format": "int64", "minimum": -9223372036854775808, "maximum": 9223372036854775807}}},
   "Increment": {"type": "object", "properties": {"delta": {"type": "integer", "format": "int64", "minimum": -9223372036854775808, "maximum": 9223372036854775807, "description": "1 if it is missing"}}},
   "Increments": {"type": "object", "required": ["increments"], "properties": {"increments": {"type": "array", "minItems": 1, "maxItems": 2000, "items": {"type": "object", "required": ["key"], "properties": {"key": {"type": "string"}, "delta": {"type": "integer", "format": "int64", "minimum": -9223372036854775808, "maximum": 9223372036854775807}}}}}},
   "Keys": {"type": "object", "required": ["keys"], "properties": {"keys": {"type": "array", "minItems": 1, "maxItems": 10000, "items": {"type": "string"}}}},
   "Families": {"type": "object", "required": ["families"], "properties": {"families": {"type": "array", "items": {"type": "string"}}}},
   "Family": {"type": "object", "required": ["name", "declaration"], "properties": {"name": {"type": "string"}, "declaration": {"type": "array", "items": {"type": "string"}}}},
   "Record": {"type": "object", "required": ["family", "key", "columns"], "properties": {"family": {"type": "string"}, "key": {"type": "string"}, "columns": {"type": "object", "additionalProperties": {"type": "integer", "format": "int64", "minimum": -9223372036854775808, "maximum": 9223372036854775807}}}},
   "Records": {"type": "object", "required": ["records"], "properties": {"records": {"type": "array", "items": {"$ref": "#/components/schemas/Record"}}}},
   "Columns": {"type": "object", "required": ["columns"], "properties": {"columns": {"type": "object", "minProperties": 1, "additionalProperties": {"type": "integer", "format": "int64", "minimum": -9223372036854775808, "maximum": 9223372036854775807}}}},
   "ColumnIncrement": {"type": "object", "required": ["column"], "properties": {"column": {"type": "string"}, "delta": {"type": "integer", "format": "int64", "minimum": -9223372036854775808, "maximum": 9223372036854775807}}},
   "Column": {"type": "object", "required": ["family", "key", "column", "value"], "properties": {"family": {"type": "string"}, "key": {"type": "string"}, "column": {"type": "string"}, "value": {"type": "integer", "format": "int64", "minimum": -9223372036854775808, "maximum": 9223372036854775807}}},
   "Partitions": {"type": "object", "required": ["partitions"], "properties": {"partitions": {"type": "array", "items": {"type": "object", "required": ["number", "keys", "changedBytes", "segmentBytes", "coldSegments", "sequence"], "properties": {"number": {"type": "integer"}, "keys": {"type": "integer"}, "changedBytes": {"type": "integer"}, "segmentBytes": {"type": "integer"}, "coldSegments": {"type": "integer"}, "sequence": {"type": "integer"}}}}}},
   "Status": {"type": "object", "required": ["status"], "properties": {"status": {"type": "string"}}},
   "Problem": {"type": "object", "required": ["type", "title", "status", "detail"], "properties": {"type": {"type": "string"}, "title": {"type": "string"}, "status": {"type": "integer"}, "detail": {"type": "string"}}}
  }
 }
}
"""#
}
