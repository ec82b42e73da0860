'use strict';

function line(stream, level, message) {
  stream.write(`${new Date().toISOString()} ${level} ${message}\n`);
}

module.exports = {
  info: (message) => line(process.stdout, 'INFO', message),
  error: (message) => line(process.stderr, 'ERROR', message),
};
