exports.up = (knex) =>
  knex.schema.createTable('users', (table) => {
    table.increments('id');
    table.string('username', 64).notNullable().unique();
    table.string('email', 255).notNullable().unique();
    table.string('password_hash', 100).notNullable();
    table.string('role', 16).notNullable().defaultTo('viewer');
    table.string('created_at', 24).notNullable();
  });

exports.down = (knex) => knex.schema.dropTable('users');
