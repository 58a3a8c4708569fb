-- For wrk: asks for one of the given paths after the other, and writes what came of it as JSON.

local requests, last = {}, 0

function init(paths)
  for number, path in ipairs(paths) do
    requests[number] = wrk.format("GET", path)
  end
end

function request()
  last = last % #requests + 1
  return requests[last]
end

function done(summary)
  local failures = 0
  for _, count in pairs(summary.errors) do
    failures = failures + count
  end
  io.write(string.format('{"requests": %d, "seconds": %.6f, "bytes": %d, "failures": %d}\n',
    summary.requests, summary.duration / 1e6, summary.bytes, failures))
end
