exports.up = (knex) =>
  knex.schema.createTable('assets', (table) => {
    table.increments('id');
    table.string('tag', 32).notNullable().unique();
    table.string('name', 200).notNullable();
    table.string('kind', 32).notNullable();
    table.integer('owner_id').references('id').inTable('users');
  });

exports.down = (knex) => knex.schema.dropTable('assets');
